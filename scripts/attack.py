"""Every attack on one arm and seed that only reads the model: quantised, asked otherwise, steered, bare."""

import time

import pandas as pd

from mmie import job
from mmie.attacks.inference import Target, attacked
from mmie.data.references import accepted_answers
from mmie.evaluation import Decoding, likelihood, score_forget
from mmie.interventions import assert_restored, load_intervention
from mmie.io import read_parquet, write_parquet
from mmie.language.identify import build_identifier
from mmie.models.loading import load_model

job.start(snakemake)
params, names = snakemake.params, snakemake.wildcards
device = job.hold_device(params.model["device"])

corpus = {
    language: read_parquet(file)
    for language, file in zip(params.languages, snakemake.input.parallel, strict=True)
}
references = accepted_answers(corpus.values())
identifier = build_identifier(pd.concat(corpus.values()), references, **snakemake.params.language)
decoding = Decoding(**params.decoding)
model, tokenizer = load_model(snakemake.input.base, device=device, dtype=params.model["dtype"])
target = Target(
    model,
    tokenizer,
    load_intervention(snakemake.input.arm),
    score=lambda changed, rows: score_forget(
        changed, tokenizer, rows, references, identifier, decoding=decoding
    ),
    probability=lambda changed, rows: likelihood(changed, tokenizer, rows, batch_size=decoding.batch_size)[
        "answer_probability"
    ],
    seed=int(names.seed),
    batch_size=decoding.batch_size,
)
forget = [language for language in params.languages if language not in params.retain]

with assert_restored(model):
    began = time.monotonic()
    for name, table in attacked(
        target, params.options, corpus, references, forget=forget, retain=params.retain
    ):
        table.insert(0, "attack", name)
        table.insert(1, "arm", names.arm)
        table.insert(2, "seed", int(names.seed))
        write_parquet(snakemake.output[name], table)
        counts = table["variant"].value_counts().to_dict()
        print(f"{name}: {time.monotonic() - began:.1f} s, {counts}, leak {table['leak'].mean():.3f}")
