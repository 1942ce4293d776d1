"""Relearning attack on one arm and seed: fine-tune it on the attacker's rows, score it along the way."""

import pandas as pd

from mmie import job
from mmie.attacks.relearn import relearn
from mmie.attacks.rows import RELEARN_DATA, relearn_sets
from mmie.data.references import accepted_answers
from mmie.evaluation import Decoding, score_forget
from mmie.interventions import assert_restored, load_intervention
from mmie.io import read_parquet, write_parquet
from mmie.language.identify import build_identifier
from mmie.models.loading import load_model

job.start(snakemake)
options, settings, names = snakemake.params.model, snakemake.params.options, snakemake.wildcards
device = job.hold_device(options["device"])

parallel = [read_parquet(file) for file in snakemake.input.parallel]
references = accepted_answers(parallel)
identifier = build_identifier(pd.concat(parallel), references, **snakemake.params.language)
held, scored = relearn_sets(
    names.attack,
    [read_parquet(file) for file in snakemake.input.rows],
    [read_parquet(file) for file in snakemake.input.retain],
    settings["items"],
)
decoding = Decoding(**snakemake.params.decoding)
model, tokenizer = load_model(snakemake.input.base, device=device, dtype=options["dtype"])

with assert_restored(model):
    table = relearn(
        model,
        tokenizer,
        load_intervention(snakemake.input.arm),
        held,
        scored,
        **settings[names.attack],
        seed=int(names.seed),
        score=lambda changed, rows: score_forget(
            changed, tokenizer, rows, references, identifier, decoding=decoding
        ),
        variant=RELEARN_DATA[names.attack],
    )
table.insert(0, "attack", names.attack)
table.insert(1, "arm", names.arm)
table.insert(2, "seed", int(names.seed))
write_parquet(snakemake.output.table, table)
