"""Score every latent, pick by every picker, clamp the picks on DEV, and store strongest contexts."""

from pathlib import Path

import pandas as pd

from mmie import job
from mmie.activations.norms import residual_norms, sink_factor
from mmie.activations.storage import load_rows
from mmie.io import read_json, read_parquet, write_json, write_parquet
from mmie.models.loading import load_model
from mmie.sae.autoencoder import at_block
from mmie.sae.contexts import strongest_contexts
from mmie.sae.formats import load_sae
from mmie.sae.item_statistics import latent_statistics
from mmie.sae.picking import Sides, contrast_entry, overlaps, pick_all, sampled, score_latents
from mmie.sae.validation import validate_picks

job.start(snakemake)
params, out = snakemake.params, snakemake.output
stored, folder = Path(snakemake.input.activations[0]).parent, Path(snakemake.input.sae)
sides = {"forget": list(params.forget), "retain": list(params.retain)}
contrast_sides = Sides(sides["forget"], sides["retain"] + list(params.negatives))
device = job.hold_device(params.model["device"])
model, tokenizer = load_model(snakemake.input.base, device=device, dtype=params.model["dtype"])
model.requires_grad_(False)
tables = {Path(file).stem: read_parquet(file) for file in snakemake.input.rows}
direct = {name: table[table["kind"] == "direct"] for name, table in tables.items()}
fit, dev = ({n: t[t["split"] == part] for n, t in direct.items()} for part in ("fit", "dev"))
dev = {name: sampled(table, params.prompts, params.seed) for name, table in dev.items()}

scores, contexts, contrast, picked = [], [], {}, {}
for layer in read_json(folder / "manifest.json")["details"]["layers"]:
    sae = at_block(load_sae(folder / f"layer{layer}", layer=layer), model, layer)
    store = load_rows(stored, layer, [*contrast_sides.forget, *contrast_sides.retain], "fit")
    statistics = latent_statistics(sae, store, seed=params.seed)
    table = score_latents(model, tokenizer, sae, store, fit, contrast_sides, statistics, seed=params.seed)
    picks, without = pick_all(table, params.top, layer=layer)
    norm = residual_norms(stored, sides["retain"])[layer]
    unit = {"residual_norm": norm, "largest_norm": sink_factor(stored, sides["retain"]) * norm}
    effects = validate_picks(model, tokenizer, dev, sae, picks, table, layer=layer, **sides, **unit)
    shown = sorted({latent for latents in picks.values() for latent in latents})
    contexts.append(strongest_contexts(sae, store, stored, tokenizer, shown).assign(layer=layer))
    scores.append(table.assign(layer=layer))
    contrast[f"layer{layer}"] = contrast_entry(sae, statistics, contrast_sides, params.top, layer=layer)
    picked[f"layer{layer}"] = {"picks": picks, "without": without, "overlap": overlaps(picks), **unit}
    picked[f"layer{layer}"]["validation"] = effects
write_parquet(out.latents, pd.concat(scores, ignore_index=True))
write_parquet(out.contexts, pd.concat(contexts, ignore_index=True))
write_json(out.contrast, contrast)
write_json(out.picks, picked)
job.manifest(
    out.manifest,
    config={**sides, "negatives": list(params.negatives), "top": params.top, "prompts": params.prompts},
    inputs=[folder / "manifest.json"],
    seed=params.seed,
    device=device,
)
