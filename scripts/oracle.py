"""Provide a model that never saw the forget languages: a shipped one of the same recipe, or a new one."""

import shutil
from pathlib import Path

import torch
from transformers import AutoTokenizer

from mmie import job
from mmie.io import atomic_directory, read_json
from mmie.models import nano

job.start(snakemake)
params, seed = snakemake.params, snakemake.params.oracle["seed"]
torch.set_num_threads(snakemake.threads)

tokenizer = AutoTokenizer.from_pretrained(snakemake.input.base)
corpus = nano.read_rows(sorted(snakemake.input.corpora))
wanted = nano.recipe_hash(corpus, tokenizer, seed=seed, exclude_languages=params.forget)
shipped = nano.find_shipped(params.oracle["shipped"], wanted) if params.oracle["shipped"] else None
output = Path(snakemake.output.model)
if shipped is not None:
    print(f"using the shipped oracle {shipped}: its recipe is the same")
    with atomic_directory(output) as folder:
        shutil.copytree(shipped, folder, dirs_exist_ok=True)
else:
    print("no shipped oracle has this recipe: training one")
    nano.train_nano(
        corpus, tokenizer, output, seed=seed, exclude_languages=params.forget, threads=snakemake.threads
    )
job.manifest(
    output / "manifest.json",
    config={"forget": params.forget, "seed": seed},
    inputs=snakemake.input.corpora,
    seed=seed,
    details=read_json(output / "manifest.json"),
)
