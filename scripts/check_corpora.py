"""Check the corpora of all languages against each other, before any model is loaded."""

from pathlib import Path

from mmie import job
from mmie.data.validation import check_corpora
from mmie.io import read_json, read_parquet, write_json

job.start(snakemake)

frames = {Path(file).stem: read_parquet(file) for file in snakemake.input.rows}
