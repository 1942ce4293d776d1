"""MMIE's trainer on the benchmark's rows."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from measure import Coder, Settings, main

from mmie.sae.options import SaeOptions
from mmie.sae.topk import TopKSAE
from mmie.sae.trainer import Trainer


def train(batches: Iterator[Tensor], settings: Settings) -> Coder:
    """`mmie.sae.trainer.Trainer`, as `train_sae` drives it."""
    rate = settings.rate * 2e-4 / math.sqrt(settings.latents / 2**14)
    encoder = "float32" if settings.variant == "float32" else "auto"
    options = SaeOptions(k=settings.k, batch_size=settings.batch, learning_rate=rate, encoder=encoder)
    sae = TopKSAE(settings.width, settings.latents, settings.k)
    count = len(settings.rows)
    rng = np.random.default_rng(settings.seed)
    drawn = rng.choice(count, settings.latents, replace=settings.latents > count)
    sae.initialise(
        settings.mean,
        torch.Generator().manual_seed(settings.seed),
        rows=torch.from_numpy(settings.rows[drawn]),
        data_share=options.data_share,
    )
    budget = settings.steps * settings.batch
    trainer = Trainer(sae, options, settings.variance, steps=settings.steps, budget=budget)
    for at, x in enumerate(islice(batches, settings.steps)):
        trainer.step(x, at)
    return Coder(sae.w_enc.detach(), sae.b_enc.detach(), sae.w_dec.detach(), sae.b_dec.detach())


if __name__ == "__main__":
    main(train)
