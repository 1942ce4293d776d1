"""Turn scores into intervals, tests, gates and verdicts."""

import pandas as pd

from mmie import job
from mmie.data.readings import reading_of_test
from mmie.io import read_json, read_parquet, sha256_file, stable_hash, write_json, write_parquet
from mmie.provenance import code_hash
from mmie.statistics.aggregate import aggregate
from mmie.statistics.options import Options

job.start(snakemake)
given, params, settings = snakemake.input, snakemake.params, snakemake.params.statistics

evaluation = pd.concat([read_parquet(file) for file in given.evaluations], ignore_index=True)
attacks = [read_parquet(file) for file in given.attacks]
test = evaluation.loc[evaluation["split"] == "test", ["language", "example_id"]].drop_duplicates()
with reading_of_test(
    params.ledger,
    configuration=stable_hash([params.frozen, code_hash()]),
    ids=stable_hash(sorted(map(list, test.to_numpy()))),
    evidence=stable_hash([sha256_file(file) for file in [*given.evaluations, *given.attacks]]),
) as reading:
    summary = aggregate(
        evaluation,
        pd.concat(attacks, ignore_index=True) if attacks else None,
        params.roles,
        params.gates,
        Options.from_settings(params.experiment, settings, params.part, params.attacks),
        hypotheses=read_json(given.hypotheses),
        identifier=read_json(given.reliability),
    )
    write_parquet(snakemake.output.metrics, summary.metrics)
    write_parquet(snakemake.output.tests, summary.tests)
    write_json(
        snakemake.output.gates,
        {"experiment": params.experiment, "test_reading": reading, **summary.gates},
    )
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
    inputs=[*given.evaluations, *given.attacks],
)
