"""Check the corpora of all languages against each other, before any model is loaded."""

from pathlib import Path

from mmie import job
from mmie.data.corpora import check_corpora
from mmie.data.options import DataOptions
from mmie.io import read_json, read_parquet, write_json

job.start(snakemake)
params = snakemake.params

report = check_corpora(
    {Path(file).stem: read_parquet(file) for file in snakemake.input.rows},
    *(params.roles[role] for role in ("forget", "retain", "neighbours")),
    DataOptions(**params.options),
    declared_tests=params.declared_tests,
)
report["languages"] = {Path(file).name.split(".")[0]: read_json(file) for file in snakemake.input.reports}
write_json(snakemake.output.report, report)
job.manifest(
    snakemake.output.manifest,
    config={"roles": params.roles, "options": params.options},
    inputs=snakemake.input.rows,
)
