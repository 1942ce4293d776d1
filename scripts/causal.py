"""Ablate the language direction at selected, random, worst and middle layers; patch the selected ones."""

from pathlib import Path

import pandas as pd

from mmie import job
from mmie.activations.causal import CausalOptions
from mmie.activations.comparison import choose_items, compare_choices, layer_effects
from mmie.activations.patching import match_pairs, patch_layers
from mmie.interventions import assert_restored
from mmie.interventions.fit_data import read_fit_data
from mmie.interventions.layers import controls, resolve_layers
from mmie.io import read_parquet, write_json
from mmie.models.blocks import find_blocks
from mmie.models.loading import load_model

job.start(snakemake)
given, params = snakemake.input, snakemake.params
device = job.hold_device(params.model["device"])

model, tokenizer = load_model(given.base, device=device, dtype=params.model["dtype"])
data = read_fit_data(
    {"layers": given.selected, "activations": given.activations},
    tokenizer=tokenizer,
    forget=params.forget,
    retain=params.retain,
)
count = len(find_blocks(model))
draws = {"random": range(params.draws)}
choices = {
    name: [resolve_layers(name, data, count, "causal", seed) for seed in draws.get(name, [0])]
    for name in ["selected", *controls(data, count)]
}
rows = pd.concat([read_parquet(file) for file in given.rows])
asked = choose_items(rows, params.forget, params.prompts)
pairs = match_pairs(rows, params.forget, params.retain, params.pairs)
options = CausalOptions(controls=params.controls)
with assert_restored(model):
    effects = layer_effects(
        model,
        tokenizer,
        asked,
        Path(given.activations[0]).parent,
        [layer for sets in choices.values() for draw in sets for layer in draw],
        forget=params.forget,
        retain=params.retain,
        options=options,
    )
    report = compare_choices(effects, choices, options)
    elsewhere = choices["random"][0] if "random" in choices else []
    report["patching"] = patch_layers(model, tokenizer, pairs, data.layers, elsewhere, options)
write_json(snakemake.output.report, report)
