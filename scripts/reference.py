"""Answer log-likelihoods of the frozen base model, once for every arm and seed."""

from mmie import job
from mmie.io import read_parquet, write_parquet
from mmie.models.loading import load_model
from mmie.training.reference import reference_log_likelihoods

job.start(snakemake)
options = snakemake.params.model
device = job.hold_device(options["device"])

model, tokenizer = load_model(snakemake.input.base, device=device, dtype=options["dtype"])
rows = read_parquet(snakemake.input.rows)
fit = rows[(rows["kind"] == "direct") & (rows["split"] == "fit")]
table = reference_log_likelihoods(model, tokenizer, fit, batch_size=snakemake.params.batch_size)
write_parquet(snakemake.output.table, table)
