"""Ask the configured judge about answers of every arm, and how far it can be trusted on known texts."""

from functools import partial
from pathlib import Path

import pandas as pd

from mmie import job
from mmie.errors import InputError
from mmie.io import read_parquet, write_json, write_parquet
from mmie.judge import agreement, chosen_answers, configured_endpoint, judge_answer, known_texts
from mmie.metrics.judging import calibrate_languages

job.start(snakemake)
params = snakemake.params
endpoint = configured_endpoint(params.options)
if endpoint is None:
    raise InputError("judge: no endpoint is configured. Set judge.url and judge.model, or leave this target.")
ask = partial(judge_answer, endpoint, cache=Path(params.cache))

table = chosen_answers(
    pd.concat([read_parquet(file) for file in snakemake.input.evaluations]), params.options["prompts"]
)
calibration = calibrate_languages(
    lambda text, answer: ask("", answer, text).state or "missing", known_texts(table)
)
opinions = [ask(row.prompt, row.reference, row.generation) for row in table.itertuples()]
table["judged"] = [opinion.state for opinion in opinions]
table["failure"] = [opinion.failure for opinion in opinions]
write_parquet(snakemake.output.answers, table)
write_json(
    snakemake.output.agreement,
    {
        "endpoint": {"url": endpoint.url, "model": endpoint.model},
        "all": agreement(table),
        "arms": {arm: agreement(rows) for arm, rows in table.groupby("arm")},
        "calibration": {
            language: {**vars(found), "passed": found.passed} for language, found in calibration.items()
        },
    },
)
