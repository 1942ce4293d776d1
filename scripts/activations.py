"""Read the residual stream for FIT and DEV prompts of one language, romanised on request."""

from pathlib import Path

from mmie import job
from mmie.activations.extract import ExtractionOptions, extract_language
from mmie.data.latin_forms import romanised_rows
from mmie.io import read_json, read_parquet
from mmie.models.loading import load_model

job.start(snakemake)
options = snakemake.params.model
device = job.hold_device(options["device"])

model, tokenizer = load_model(snakemake.input.base, device=device, dtype=options["dtype"])
rows = read_parquet(snakemake.input.rows)
rows = rows[(rows["kind"] == "direct") & rows["split"].isin(["fit", "dev"])]
if snakemake.params.romanised:
    rows = romanised_rows(rows, snakemake.wildcards.language)
base = read_json(Path(snakemake.input.base) / "manifest.json")
report = extract_language(
    model,
    tokenizer,
    rows,
    snakemake.output.folder,
    ExtractionOptions(identity=base["details"]["weights"], **snakemake.params.options["activations"]),
)
job.manifest(
    Path(snakemake.output.folder) / "manifest.json",
    config=dict(snakemake.params.options),
    inputs=[snakemake.input.rows],
    device=device,
    details={**report, "romanised": snakemake.params.romanised},
)
