"""Measure how deep one arm and seed goes, and what it costs at inference."""

from pathlib import Path

import pandas as pd

from mmie import job
from mmie.depth.cost import model_cost
from mmie.depth.items import choose_items
from mmie.depth.measure import DepthOptions, measure_depth
from mmie.interventions import assert_restored, load_intervention
from mmie.io import read_json, read_parquet, write_json, write_parquet
from mmie.metrics.cost import cost_row
from mmie.models.loading import load_model

job.start(snakemake)
options, names = dict(snakemake.params.options), snakemake.wildcards
device = job.hold_device(snakemake.params.model["device"])
arm = Path(snakemake.input.arm)

items = choose_items(pd.concat([read_parquet(file) for file in snakemake.input.rows]), options.pop("items"))
model, tokenizer = load_model(snakemake.input.base, device=device, dtype=snakemake.params.model["dtype"])
intervention = load_intervention(arm)

with assert_restored(model):
    table = measure_depth(model, tokenizer, intervention, items, DepthOptions(**options))
    change, latency = model_cost(model, tokenizer, intervention, items["prompt"].tolist())
table.insert(0, "arm", names.arm)
table.insert(1, "seed", int(names.seed))
write_parquet(snakemake.output.table, table)
row = cost_row(
    names.arm,
    int(names.seed),
    read_json(arm / "manifest.json"),
    change,
    sum(file.stat().st_size for file in arm.rglob("*") if file.is_file()),
)
write_json(snakemake.output.cost, {**row, "seconds_per_token": latency})
