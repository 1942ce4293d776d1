"""Regenerate the Atlas corpus from CLDR."""

from mmie import job
from mmie.data.atlas.generate import generate
from mmie.io import atomic_directory

job.start(snakemake)

with atomic_directory(snakemake.output.corpus) as folder:
    generate(snakemake.input.config, folder)
