"""Attack one arm and seed: fine-tune it on FIT forget rows, score it on TEST rows along the way."""

import pandas as pd

from mmie import job
from mmie.attacks.relearn import relearn
from mmie.data.references import accepted_answers
from mmie.evaluation import Decoding, choose_prompts, score_forget
from mmie.interventions import assert_restored, load_intervention
from mmie.io import read_parquet, write_parquet
from mmie.language.identify import build_identifier
from mmie.models.loading import load_model

job.start(snakemake)
options, attack, names = snakemake.params.model, snakemake.params.options, snakemake.wildcards
device = job.hold_device(options["device"])

parallel = [read_parquet(file) for file in snakemake.input.parallel]
references = accepted_answers(parallel)
identifier = build_identifier(pd.concat(parallel), references)
forget = [read_parquet(file) for file in snakemake.input.rows]
fit = pd.concat([rows[(rows["split"] == "fit") & (rows["kind"] == "direct")] for rows in forget])
scored = pd.concat([choose_prompts(rows, attack["items"]) for rows in forget])
scored = scored[(scored["split"] == "test") & (scored["kind"] == "direct")].reset_index(drop=True)
decoding = Decoding(**snakemake.params.decoding)
model, tokenizer = load_model(snakemake.input.base, device=device, dtype=options["dtype"])

with assert_restored(model):
    table = relearn(
        model,
        tokenizer,
        load_intervention(snakemake.input.arm),
        fit.reset_index(drop=True),
        scored,
        steps=attack["steps"],
        learning_rate=attack["learning_rate"],
        batch_size=attack["batch_size"],
        seed=int(names.seed),
        score=lambda changed, rows: score_forget(
            changed, tokenizer, rows, references, identifier, decoding=decoding
        ),
    )
table.insert(0, "attack", "relearn")
table.insert(1, "arm", names.arm)
table.insert(2, "seed", int(names.seed))
write_parquet(snakemake.output.table, table)
