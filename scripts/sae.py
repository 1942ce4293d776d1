"""Train or load a sparse autoencoder for each selected layer and measure it on held-out rows."""

from pathlib import Path

from mmie import job
from mmie.activations.storage import load_rows
from mmie.io import atomic_directory, read_json, read_parquet, write_json
from mmie.models.blocks import block_device, find_blocks
from mmie.models.loading import load_model
from mmie.sae.autoencoder import at_block
from mmie.sae.existing import check_existing, existing_sae
from mmie.sae.formats import save_sae
from mmie.sae.origin import origin_of
from mmie.sae.quality import measure_loss_recovered, measure_quality
from mmie.sae.train import SaeOptions, train_sae

job.start(snakemake)
languages = list(snakemake.params.languages)
options = snakemake.params.options["sae"]
device = job.hold_device(snakemake.params.model["device"])
stored = Path(snakemake.input.activations[0]).parent
layers = read_json(snakemake.input.selected)["layers"]
recipe = SaeOptions(**options)
if recipe.load is not None:
    check_existing(recipe.load, layers)

model, tokenizer = load_model(snakemake.input.base, device=device, dtype=snakemake.params.model["dtype"])
tables = {Path(file).stem: read_parquet(file) for file in snakemake.input.rows}
held_out = {
    language: table[(table["kind"] == "direct") & (table["split"] == "dev")]
    for language, table in tables.items()
}
with atomic_directory(snakemake.output.folder) as folder:
    quality = {}
    for layer in layers:
        fit, dev = (load_rows(stored, layer, languages, split) for split in ("fit", "dev"))
        origin = origin_of(model, tokenizer, snakemake.input.base, stored, languages, layer)
        if recipe.load is None:
            sae, training = train_sae(fit, recipe, device=block_device(find_blocks(model)[layer]))
        else:
            sae, training, origin = existing_sae(recipe.load, fit, origin)
        save_sae(sae, folder / f"layer{layer}", **origin)
        quality[f"layer{layer}"] = {
            "training": training,
            **measure_quality(at_block(sae, model, layer), dev),
            "loss_recovered": measure_loss_recovered(
                model, tokenizer, held_out, sae, layer, norm_limit=max(dev.sink_limit.values())
            ),
        }
    write_json(folder / "quality.json", quality)
    job.manifest(
        folder / "manifest.json",
        config=options,
        inputs=[snakemake.input.selected, *(stored / code / "manifest.json" for code in languages)],
        seed=options["seed"],
        device=device,
        details={"layers": layers},
    )
