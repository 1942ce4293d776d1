"""Score one arm and seed on the prompts of one language or several, a table each."""

import pandas as pd

from mmie import job
from mmie.data.references import accepted_answers
from mmie.evaluation import Decoding, Extras, base_distribution, choose_prompts, evaluate
from mmie.interventions import assert_restored, load_intervention
from mmie.io import read_parquet, write_parquet
from mmie.language.identify import build_identifier
from mmie.metrics.confusion import fit_lexicon
from mmie.models.loading import load_model

job.start(snakemake)
given, params, names = snakemake.input, snakemake.params, snakemake.wildcards
device = job.hold_device(params.model["device"])
# A job of one language has a path here, a job of several a list.
files = [given.rows] if isinstance(given.rows, str) else list(given.rows)
corpora = {file: read_parquet(file) for file in sorted({*given.parallel, *files})}
every = pd.concat(corpora.values())
references = accepted_answers(list(corpora.values()))
identifier = build_identifier(every, references, **params.language)
lexicon, decoding = fit_lexicon(every), Decoding(**params.decoding)
model, tokenizer = load_model(given.base, device=device, dtype=params.model["dtype"])
prompts = [choose_prompts(corpora[file], params.prompts) for file in files]
base = [base_distribution(model, tokenizer, rows, batch_size=decoding.batch_size) for rows in prompts]

with assert_restored(model), load_intervention(given.arm).applied(model) as changed:
    for file, rows, unchanged, output in zip(files, prompts, base, snakemake.output.tables, strict=True):
        table = evaluate(
            changed,
            tokenizer,
            rows,
            references,
            identifier,
            decoding=decoding,
            extras=Extras(pool=corpora[file], base=unchanged, lexicon=lexicon),
        )
        table.insert(0, "arm", names.arm)
        table.insert(1, "seed", int(names.seed))
        table["decoding_hash"] = table.attrs["decoding_hash"]
        write_parquet(output, table)
