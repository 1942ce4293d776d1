"""Fit one configuration of an arm and score it on DEV; nothing of it is kept but its rows."""

import pandas as pd

from mmie import job
from mmie.data.references import accepted_answers
from mmie.evaluation import Decoding, choose_prompts, evaluate
from mmie.interventions import assert_restored, build
from mmie.interventions.fit_data import read_fit_data
from mmie.io import read_parquet, write_parquet
from mmie.language.identify import build_identifier
from mmie.models.loading import load_model
from mmie.sweep.choice import dev_rows

job.start(snakemake)
given, params = snakemake.input, snakemake.params
device = job.hold_device(params.model["device"])
model, tokenizer = load_model(given.base, device=device, dtype=params.model["dtype"])


def score(changed, file):
    """DEV rows of one language, judged as the evaluation stage judges them."""
    rows = read_parquet(file)
    known = [read_parquet(other) for other in sorted({*given.parallel, file})]
    references = accepted_answers(known)
    return evaluate(
        changed,
        tokenizer,
        dev_rows(choose_prompts(rows, params.prompts)),
        references,
        build_identifier(pd.concat(known), references, **snakemake.params.language),
        decoding=Decoding(**params.decoding),
    )


data = read_fit_data(dict(given.items()), tokenizer=tokenizer, forget=params.forget, retain=params.retain)
intervention = build(params.options)
with assert_restored(model):
    intervention.fit(model, data, seed=params.seed)
    with intervention.applied(model) as changed:
        tables = [score(changed, file) for file in given.evaluated]
write_parquet(snakemake.output.table, pd.concat(tables, ignore_index=True).assign(seed=params.seed))
