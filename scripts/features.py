"""Score every latent by the contrast of forget and retain languages; list the strongest."""

from pathlib import Path

import pandas as pd

from mmie import job
from mmie.activations.storage import load_rows
from mmie.io import read_json, write_json, write_parquet
from mmie.sae.features import contrast_table, latent_statistics, pick_contrast
from mmie.sae.formats import load_sae

job.start(snakemake)
stored = Path(snakemake.input.activations[0]).parent
folder = Path(snakemake.input.sae)
sides = {"forget": list(snakemake.params.forget), "retain": list(snakemake.params.retain)}

tables, picked = [], {}
for layer in read_json(folder / "manifest.json")["details"]["layers"]:
    sae = load_sae(folder / f"layer{layer}", layer=layer)
    statistics = latent_statistics(sae, load_rows(stored, layer, sides["forget"] + sides["retain"], "fit"))
    tables.append(contrast_table(sae, statistics, **sides).assign(layer=layer))
    picked[f"layer{layer}"] = pick_contrast(sae, statistics, layer=layer, top_k=snakemake.params.top, **sides)
write_parquet(snakemake.output.latents, pd.concat(tables, ignore_index=True))
write_json(snakemake.output.contrast, picked)
job.manifest(
    snakemake.output.manifest,
    config={**sides, "top": snakemake.params.top},
    inputs=[folder / "manifest.json"],
)
