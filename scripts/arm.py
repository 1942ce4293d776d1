"""Fit one arm and save its intervention; the base must be the same before and after."""

from pathlib import Path

import pandas as pd

from mmie import job
from mmie.interventions import FitData, assert_restored, build
from mmie.io import atomic_directory, read_json, read_parquet, write_parquet
from mmie.models.loading import load_model

job.start(snakemake)
given, params = snakemake.input, snakemake.params
seed = int(snakemake.wildcards.seed)
device = job.hold_device(params.model["device"])


def rows_of(languages):
    """FIT rows of some languages; None for an arm that reads none."""
    tables = [read_parquet(file) for file in given.get("rows", []) if Path(file).stem in languages]
    if not tables:
        return None
    rows = pd.concat(tables, ignore_index=True)
    return rows[(rows["kind"] == "direct") & (rows["split"] == "fit")].reset_index(drop=True)


def residual_norms():
    """Median norm of each layer over the retain languages."""
    reports = [read_json(Path(folder) / "extraction.json") for folder in given.activations]
    layers = reports[0]["layers"]
    return {layer: sum(r["median_norm"][str(layer)] for r in reports) / len(reports) for layer in layers}


model, tokenizer = load_model(given.base, device=device, dtype=params.model["dtype"])
latents = read_parquet(given.latents) if "latents" in given.keys() else None  # noqa: SIM118
reference = [read_parquet(file) for file in given.get("reference", [])]
data = FitData(
    tokenizer=tokenizer,
    forget=rows_of(params.forget),
    retain=rows_of(params.retain),
    reference=pd.concat(reference, ignore_index=True) if reference else None,
    layers=tuple(read_json(given.layers)["layers"]) if given.get("layers") else (),
    oracle=Path(given.oracle) if given.get("oracle") else None,
    sae=Path(given.sae) if given.get("sae") else None,
    latents=None if latents is None else dict(tuple(latents.groupby("layer"))),
    residual_norms=residual_norms() if given.get("activations") else None,
    checkpoints=Path(params.checkpoints),
)
intervention = build(params.options)
with assert_restored(model):
    intervention.fit(model, data, seed=seed)
with atomic_directory(snakemake.output.folder) as folder:
    intervention.save(folder)
    if intervention.history is not None:
        write_parquet(folder / "history.parquet", intervention.history)
    job.manifest(
        folder / "manifest.json",
        config=dict(params.options),
        inputs=[Path(given.base) / "manifest.json", *given.get("rows", [])],
        seed=seed if intervention.seeded else None,
        device=device,
        details=intervention.fitted.facts,
    )
