"""dictionary_learning's TopKTrainer (0.1.0). Variant `patched` replaces its projection's einsum.

That einsum lowers to a batched matrix product of single rows; the patch is the same formula as a
product and a sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from dictionary_learning.trainers import top_k
from dictionary_learning.trainers.top_k import TopKTrainer
from measure import Coder, Settings, main
from torch import Tensor


@torch.no_grad()
def projected(weights: Tensor, gradient: Tensor, _width: int, _latents: int) -> Tensor:
    """The part of the gradient [width, latents] orthogonal to each decoder column."""
    unit = weights / (weights.norm(dim=0, keepdim=True) + 1e-6)
    return gradient - (gradient * unit).sum(0) * unit


def train(batches: Iterator[Tensor], settings: Settings) -> Coder:
    """`TopKTrainer.update` on every batch."""
    if settings.variant == "patched":
        top_k.remove_gradient_parallel_to_decoder_directions = projected
    shrink = (settings.latents / 2**14) ** 0.5
    trainer = TopKTrainer(
        steps=settings.steps,
        activation_dim=settings.width,
        dict_size=settings.latents,
        k=settings.k,
        layer=0,
        lm_name="none",
        lr=settings.rate * 2e-4 / shrink,
        warmup_steps=settings.warmup,
        decay_start=settings.steps - max(1, settings.decay),
        seed=settings.seed,
        device="cpu",
    )
    for step, x in enumerate(islice(batches, settings.steps)):
        trainer.update(step, x)
    ae = trainer.ae
    return Coder(
        ae.encoder.weight.detach(),
        ae.encoder.bias.detach(),
        ae.decoder.weight.detach().T.contiguous(),
        ae.b_dec.detach(),
    )


if __name__ == "__main__":
    main(train)
