"""Measure language identification on texts whose language is known, and stop where it fails its gate."""

from dataclasses import asdict

import pandas as pd

from mmie import job
from mmie.io import read_parquet, write_json, write_parquet
from mmie.language.correction import reliability, require_reliable
from mmie.language.identify import build_identifier
from mmie.language.measurement import measure_rows

job.start(snakemake)
params = snakemake.params

rows = pd.concat([read_parquet(file) for file in snakemake.input.rows], ignore_index=True)
identifier = build_identifier(rows, **params.language)
confusion = measure_rows(identifier, rows)
found = reliability(confusion, **params.limits)
require_reliable(found)
write_parquet(snakemake.output.confusion, confusion)
write_json(snakemake.output.reliability, {item.language: asdict(item) for item in found})
job.manifest(
    snakemake.output.manifest,
    config={"language": params.language, "limits": params.limits},
    inputs=snakemake.input.rows,
    details=identifier.description(),
)
