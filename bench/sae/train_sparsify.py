"""sparsify's coder, optimisers and training step (1.3.3), without its model and data pipeline.

Leaving those out favours it. Variants: `adam`, `signum`; as `Trainer.fit` has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from measure import Coder, Settings, main
from schedulefree import ScheduleFreeWrapper
from sparsify import SparseCoder, SparseCoderConfig
from sparsify.sign_sgd import SignSGD
from torch import Tensor
from transformers import get_linear_schedule_with_warmup


def train(batches: Iterator[Tensor], settings: Settings) -> Coder:
    """The body of `Trainer.fit` for one hook point, loss_fn fvu, AuxK off (its default)."""
    torch.set_float32_matmul_precision("high")
    config = SparseCoderConfig(num_latents=settings.latents, k=settings.k)
    sae = SparseCoder(settings.width, config, dtype=torch.float32)
    shrink = (settings.latents / 2**14) ** 0.5
    scheduler = None
    if settings.variant == "adam":
        optimiser = torch.optim.Adam(sae.parameters(), lr=settings.rate * 2e-4 / shrink)
        scheduler = get_linear_schedule_with_warmup(optimiser, settings.warmup, settings.steps)
    else:
        optimiser = ScheduleFreeWrapper(
            SignSGD(sae.parameters(), lr=settings.rate * 5e-3 / shrink), momentum=0.95
        )
        optimiser.train()
    silent = torch.zeros(settings.latents, dtype=torch.long)
    fired = torch.zeros(settings.latents, dtype=torch.bool)
    for step, x in enumerate(islice(batches, settings.steps)):
        if step == 0:
            sae.b_dec.data = x.mean(0)
        sae.set_decoder_norm_to_unit_norm()
        total_variance = (x - x.mean(0)).pow(2).sum()
        out = sae(x=x, y=x, dead_mask=None, total_variance=total_variance)
        fired[out.latent_indices.flatten()] = True
        out.fvu.backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()
        if scheduler is not None:
            scheduler.step()
        silent += len(x)
        silent[fired] = 0
        fired.zero_()
    if settings.variant == "signum":
        optimiser.eval()
    return Coder(
        sae.encoder.weight.detach(), sae.encoder.bias.detach(), sae.W_dec.detach(), sae.b_dec.detach()
    )


if __name__ == "__main__":
    main(train)
