"""Measure what the length limit cuts off, before anything is trained or scored."""

from mmie import job
from mmie.io import read_parquet, write_json
from mmie.models.lengths import set_lengths
from mmie.models.loading import load_tokenizer

job.start(snakemake)
params = snakemake.params

report = set_lengths(
    load_tokenizer(snakemake.input.base),
    read_parquet(snakemake.input.rows),
    max_new_tokens=params.max_new_tokens,
    truncated_limit=params.truncated_limit,
    language=snakemake.wildcards.language,
)
write_json(snakemake.output.report, report)
