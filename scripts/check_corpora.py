"""Check the corpora of all languages against each other, before any model is loaded."""

from pathlib import Path

from mmie import job
from mmie.data.card import data_card
from mmie.data.corpora import check_corpora
from mmie.data.options import DataOptions
from mmie.io import atomic_path, read_json, read_parquet, write_json

job.start(snakemake)
params = snakemake.params

corpora = {Path(file).stem: read_parquet(file) for file in snakemake.input.rows}
report = check_corpora(
    corpora,
    *(params.roles[role] for role in ("forget", "retain", "neighbours")),
    DataOptions(**params.options),
    declared_tests=params.declared_tests,
)
report["languages"] = {Path(file).name.split(".")[0]: read_json(file) for file in snakemake.input.reports}
write_json(snakemake.output.report, report)
with atomic_path(snakemake.output.card) as card:
    card.write_text(data_card(corpora), encoding="utf-8")
job.manifest(
    snakemake.output.manifest,
    config={"roles": params.roles, "options": params.options},
    inputs=snakemake.input.rows,
)
