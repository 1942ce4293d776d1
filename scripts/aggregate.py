"""Turn scores into intervals, tests, gates and verdicts."""

import pandas as pd

from mmie import job
from mmie.io import read_parquet, write_json, write_parquet
from mmie.statistics.aggregate import aggregate
from mmie.statistics.options import Options

job.start(snakemake)
params, settings = snakemake.params, snakemake.params.statistics

summary = aggregate(
    pd.concat([read_parquet(file) for file in snakemake.input.evaluations], ignore_index=True),
    pd.concat([read_parquet(file) for file in snakemake.input.attacks], ignore_index=True)
    if snakemake.input.attacks
    else None,
    params.roles,
    params.gates,
    Options(
        experiment=params.experiment,
        alpha=settings["alpha"],
        n_resamples=settings["resamples"],
        weight=settings["weight"],
        reset_margins=settings["calibrate_margins"],
        headroom=settings["headroom"],
        **params.part,
    ),
)
write_parquet(snakemake.output.metrics, summary.metrics)
write_parquet(snakemake.output.tests, summary.tests)
write_json(snakemake.output.gates, {"experiment": params.experiment, **summary.gates})
write_json(
    snakemake.output.extras,
    {
        name: table.to_dict("records") if isinstance(table, pd.DataFrame) else table
        for name, table in summary.extras.items()
    },
)
job.manifest(
    snakemake.output.manifest,
    config={"gates": params.gates, "roles": params.roles, "statistics": settings, **params.part},
    inputs=[*snakemake.input.evaluations, *snakemake.input.attacks],
)
