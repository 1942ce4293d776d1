"""Score one arm and seed on the prompts of one language."""

import pandas as pd

from mmie import job
from mmie.data.references import accepted_answers
from mmie.evaluation import Decoding, choose_prompts, evaluate
from mmie.interventions import assert_restored, load_intervention
from mmie.io import read_parquet, write_parquet
from mmie.language.identify import build_identifier
from mmie.models.loading import load_model

job.start(snakemake)
options, names = snakemake.params.model, snakemake.wildcards
device = job.hold_device(options["device"])

rows = read_parquet(snakemake.input.rows)
known = {file: read_parquet(file) for file in {*snakemake.input.parallel, snakemake.input.rows}}
references = accepted_answers([known[file] for file in sorted(known)])
identifier = build_identifier(pd.concat([known[file] for file in sorted(known)]), references)
model, tokenizer = load_model(snakemake.input.base, device=device, dtype=options["dtype"])
intervention = load_intervention(snakemake.input.arm)

with assert_restored(model), intervention.applied(model) as changed:
    table = evaluate(
        changed,
        tokenizer,
        choose_prompts(rows, snakemake.params.prompts),
        references,
        identifier,
        decoding=Decoding(**snakemake.params.decoding),
    )
table.insert(0, "arm", names.arm)
table.insert(1, "seed", int(names.seed))
table["decoding_hash"] = table.attrs["decoding_hash"]
write_parquet(snakemake.output.table, table)
