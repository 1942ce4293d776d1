"""Draw the figures and write the report page."""

from pathlib import Path

from mmie import job
from mmie.io import atomic_directory, atomic_path
from mmie.report.figures import draw_figures
from mmie.report.inputs import read_inputs
from mmie.report.page import build_report

job.start(snakemake)

inputs = read_inputs(Path(snakemake.input.gates).parents[1], snakemake.params.config)
figures = draw_figures(inputs)
with atomic_directory(snakemake.output.figures) as folder:
    for name, picture in figures.items():
        (folder / f"{name}.svg").write_text(picture, encoding="utf-8")
with atomic_path(snakemake.output.page) as partial:
    partial.write_text(build_report(inputs, figures), encoding="utf-8")
