"""Draw leak and accuracy of every arm by strength, from the tables of `dose_response`."""

from pathlib import Path

from mmie import job
from mmie.errors import InputError
from mmie.io import atomic_path
from mmie.report.figures.dose import draw_doses
from mmie.report.stage_files import read_doses

job.start(snakemake)
params = snakemake.params
if not snakemake.input.doses:
    raise InputError("arms: none has a strength to vary. Add one such as sae_clamp, diff_means or leace.")
picture = draw_doses(read_doses(Path(snakemake.output.figure).parents[1]), params.arms, params.roles)
with atomic_path(snakemake.output.figure) as partial:
    partial.write_text(picture, encoding="utf-8")
