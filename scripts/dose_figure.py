"""Draw leak and accuracy of every arm by strength, from the tables of `dose_response`."""

from pathlib import Path

from mmie import job
from mmie.errors import InputError
from mmie.io import atomic_path
from mmie.report.figures.dose import dose
from mmie.report.inputs import read_inputs

job.start(snakemake)
if not snakemake.input.doses:
    raise InputError("arms: none has a strength to vary. Add one such as sae_clamp, diff_means or leace.")
picture = dose(read_inputs(Path(snakemake.input.page).parent, snakemake.params.config))
with atomic_path(snakemake.output.figure) as partial:
    partial.write_text(picture, encoding="utf-8")
