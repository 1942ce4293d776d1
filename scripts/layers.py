"""Score every layer on parallel items and choose where arms act."""

from pathlib import Path

from mmie import job
from mmie.activations.scoring import ScoringOptions
from mmie.activations.selection import select_layers
from mmie.io import write_json, write_parquet

job.start(snakemake)
languages, forget = snakemake.params.languages, snakemake.params.forget
options = snakemake.params.options["layers"]

scores, selected = select_layers(
    Path(snakemake.input.activations[0]).parent,
    forget=forget,
    others=[language for language in languages if language not in forget],
    top_k=options["top"],
    method=options["method"],
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
