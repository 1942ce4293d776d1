"""Bring the base model into the results folder as safetensors, with its hash."""

from pathlib import Path

from mmie import job
from mmie.io import atomic_directory, sha256_file
from mmie.models.blocks import verify_blocks
from mmie.models.lengths import resolved_length
from mmie.models.loading import load_model, precision, record_choices, save_model

job.start(snakemake)
options = snakemake.params.model
job.hold_device(options["device"])

model, tokenizer = load_model(
    options["base"],
    device="cpu",
    dtype=options["dtype"],
    revision=options["revision"],
    attention=options["attention"],
    blocks=options["blocks"],
)
verify_blocks(model)
# Every stage takes its length limit from this tokenizer.
tokenizer.model_max_length = resolved_length(model, options["max_length"])
with atomic_directory(snakemake.output.model) as folder:
    save_model(model, tokenizer, folder)
    # Every stage loads this folder, and so computes with this kernel and acts on these blocks.
    choices = record_choices(model, folder, blocks=options["blocks"])
    weights = {file.name: sha256_file(file) for file in sorted(folder.glob("*.safetensors"))}
    job.manifest(
        folder / "manifest.json",
        config=options,
        inputs=[file for file in snakemake.input.model if Path(file).is_file()],
        details={
            "weights": weights,
            "parameters": sum(p.numel() for p in model.parameters()),
            "max_length": tokenizer.model_max_length,
            **choices,
            **precision(model),
        },
    )
