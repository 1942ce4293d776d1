"""SAELens' SAETrainer with its TopK autoencoder (6.54.12). Variant `centred` starts b_dec at the mean."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from measure import Coder, Settings, main
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor


def train(batches: Iterator[Tensor], settings: Settings) -> Coder:
    """`SAETrainer.fit` over the batches."""
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=settings.width, d_sae=settings.latents, k=settings.k))
    if settings.variant == "centred":
        sae.b_dec.data.copy_(settings.mean)
    config = SAETrainerConfig(
        total_training_samples=settings.steps * settings.batch,
        train_batch_size_samples=settings.batch,
        lr=settings.rate * 3e-4,
        lr_end=0.1 * settings.rate * 3e-4,
        lr_warm_up_steps=settings.warmup,
        lr_decay_steps=settings.decay,
    )
    SAETrainer(config, sae, batches).fit()
    with torch.no_grad():
        # It ranks pre-activations times decoder norms; folded, that is a plain TopK.
        norms = sae.W_dec.norm(dim=1)
        return Coder(
            (sae.W_enc * norms).T.contiguous(),
            sae.b_enc * norms,
            sae.W_dec / norms[:, None],
            sae.b_dec.detach(),
        )


if __name__ == "__main__":
    main(train)
