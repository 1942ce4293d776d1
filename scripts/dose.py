"""Score one fitted arm at several strengths, on DEV prompts of forget and retain languages."""

from pathlib import Path

import pandas as pd

from mmie import job
from mmie.data.references import accepted_answers
from mmie.evaluation import Decoding, choose_prompts, score_forget
from mmie.interventions import assert_restored, load_intervention
from mmie.interventions.dose import dose_response
from mmie.io import read_parquet, write_parquet
from mmie.language.identify import build_identifier
from mmie.models.loading import load_model

job.start(snakemake)
given, params, names = snakemake.input, snakemake.params, snakemake.wildcards
device = job.hold_device(params.model["device"])

parallel = [read_parquet(file) for file in given.rows]
references = accepted_answers(parallel)
identifier = build_identifier(pd.concat(parallel), references, **snakemake.params.language)
chosen = pd.concat([choose_prompts(rows, params.prompts) for rows in parallel])
# Who sees such curves is tempted to choose a strength by them, so TEST is not on them.
chosen = chosen[(chosen["split"] == "dev") & (chosen["kind"] == "direct")].reset_index(drop=True)
model, tokenizer = load_model(given.base, device=device, dtype=params.model["dtype"])


def score(changed):
    """Leak, correctness and likelihood of every prompt."""
    return score_forget(
        changed, tokenizer, chosen, references, identifier, decoding=Decoding(**params.decoding)
    )


with assert_restored(model):
    table = dose_response(model, load_intervention(Path(given.arm)), score)
table.insert(0, "arm", names.arm)
table.insert(1, "seed", int(names.seed))
write_parquet(snakemake.output.table, table)
