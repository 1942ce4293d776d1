"""Check the rows of one language; keep the good ones, report every other with its file and line."""

from mmie import job
from mmie.data.options import DataOptions
from mmie.data.validation import validate_language
from mmie.io import write_json, write_parquet

job.start(snakemake)

rows, report = validate_language(
    [str(file) for file in snakemake.input.files],
    snakemake.wildcards.language,
    DataOptions(**snakemake.params.options),
)
write_parquet(snakemake.output.rows, rows)
write_json(snakemake.output.report, report)
