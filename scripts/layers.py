"""Score every layer on parallel items and choose where arms act."""

from pathlib import Path

from mmie import job
from mmie.activations.scoring import ScoringOptions
from mmie.activations.selection import Combination, Weights, select_layers
from mmie.io import write_json, write_parquet

job.start(snakemake)
options = snakemake.params.options

scores, selected = select_layers(
    {Path(folder).name: folder for folder in snakemake.input.activations},
    forget=snakemake.params.forget,
    top_k=options["top"],
    method=options["method"],
    combination=Combination(weights=Weights(**options["weights"]), combine=options["combine"]),
    scoring=ScoringOptions(permutations=options["permutations"], half_samples=options["half_samples"]),
)
write_parquet(snakemake.output.scores, scores)
write_json(snakemake.output.selected, selected)
job.manifest(
    snakemake.output.manifest,
    config=options,
    inputs=[Path(folder) / "manifest.json" for folder in snakemake.input.activations],
    details=selected,
)
