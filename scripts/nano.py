"""Train the base model of the embedded default on all of Atlas."""

import torch

from mmie import job
from mmie.models import nano
from mmie.models.nano_tokenizer import train_tokenizer

job.start(snakemake)
torch.set_num_threads(snakemake.threads)

rows = nano.read_rows(sorted(snakemake.input.corpora))
tokenizer = train_tokenizer(f"{row['prompt']} {row['answer']}" for row in nano.training_rows(rows))
nano.train_nano(
    rows, tokenizer, snakemake.output.model, seed=snakemake.params.seed, threads=snakemake.threads
)
