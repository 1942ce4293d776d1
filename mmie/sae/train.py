"""Train a TopK autoencoder on the stored activations of several languages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmie.activations.storage import ActivationStore
from mmie.errors import InputError
from mmie.io import seed_from
from mmie.sae.gradients import Gradients, step_gradients
from mmie.sae.topk import TopKSAE


@dataclass(frozen=True)
class SaeOptions:
    """Size and training of an autoencoder."""

    expansion: int = 8
    """Latents per residual dimension."""
    k: int = 16
    """Latents that may fire for a token."""
    epochs: int = 8
    """Passes over the stored rows."""
    batch_size: int = 512
    """Rows of a step."""
    learning_rate: float | None = None
    """Peak rate of Adam; None: 2e-4 / sqrt(latents / 2^14), the rule for 1e8 tokens and more."""
    auxiliary_weight: float = 1 / 32
    """Weight of the loss that revives dead latents."""
    dead_window: float = 0.1
    """A latent is dead after this share of the token budget without firing."""
    warmup: float = 0.05
    """Share of the steps in which the rate rises."""
    decay: float = 0.2
    """Share of the steps at the end in which it falls to 0."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    minimum_tokens_per_latent: float = 50.0
    """Fewer rows per latent, counted over all epochs, are an error."""
    seed: int = 0


def train_sae(store: ActivationStore, options: SaeOptions | None = None) -> tuple[TopKSAE, dict[str, Any]]:
    """Fit an autoencoder to all rows of the store in a seeded order that mixes the languages.

    The rows are scaled by one constant while training; the result takes them unscaled.

    Args:
        store: rows of one layer, FIT split.
        options: size and training.

    Returns:
        The autoencoder (fp32, on the CPU) and what training says of itself: rows, steps, scale,
        variance, loss by tenth of the run, share of dead latents, seconds are the caller's.

    Raises:
        InputError: too few rows for the size, or a loss that is not finite.
    """
    options = options or SaeOptions()
    latents = options.expansion * store.width
    budget = options.epochs * len(store)
    if budget < options.minimum_tokens_per_latent * latents:
        raise InputError(
            f"sae: {budget} rows over {options.epochs} epochs for {latents} latents, fewer than "
            f"{options.minimum_tokens_per_latent} a latent. Add data, lower sae.expansion, or lower "
            "sae.minimum_tokens_per_latent."
        )
    mean, variance, scale = _moments(store)
    generator = torch.Generator().manual_seed(seed_from("sae weights", options.seed, store.layer) % 2**62)
    sae = TopKSAE(store.width, latents, options.k)
    sae.initialise(mean * scale, generator)
    trainer = _Trainer(sae, options, variance * scale**2, budget)
    for at, rows in enumerate(_shuffled(store, options)):
        trainer.step(store[rows] * scale, at)
    sae.fold_scale(scale)
    sae.requires_grad_(False)
    report = {
        "rows": len(store),
        "tokens": budget,
        "tokens_per_latent": budget / latents,
        "latents": latents,
        "steps": trainer.steps,
        "learning_rate": trainer.rate,
        "input_scale": scale,
        "variance": variance,
        "mean_over_deviation": float(mean.norm()) / math.sqrt(variance),
        "languages": {language: len(store.range_of(language)) for language in store.languages},
        "loss": trainer.tenths(),
        "dead_share_in_training": float(trainer.dead().float().mean()),
        "seed": options.seed,
    }
    return sae, report


class _Trainer:
    """Adam on unit-norm decoder rows, with a clock of when each latent fired last."""

    def __init__(self, sae: TopKSAE, options: SaeOptions, variance: float, budget: int) -> None:
        self.sae, self.options, self.variance = sae, options, variance
        self.steps = math.ceil(budget / options.epochs / options.batch_size) * options.epochs
        self.rate = options.learning_rate or 2e-4 / math.sqrt(sae.latents / 2**14)
        self.optimiser = torch.optim.Adam(sae.parameters(), lr=self.rate, fused=True)
        self.window = options.dead_window * budget
        self.silent_for = torch.zeros(sae.latents, dtype=torch.long)
        self.losses: list[float] = []

    def dead(self) -> Tensor:
        """Latents without firing for longer than the window, [latents], bool."""
        return self.silent_for > self.window

    def step(self, x: Tensor, at: int) -> None:
        """One update on rows [batch, width]."""
        found = step_gradients(self.sae, x, self.variance, self.dead(), self.options.auxiliary_weight)
        value = float(found.loss)
        if not math.isfinite(value):
            raise InputError(f"sae: the loss is {value} at step {at}. Lower sae.learning_rate.")
        self._set_gradients(found)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * self._schedule(at)
        self.optimiser.step()
        with torch.no_grad():
            # Adam moves rows along themselves again, so projecting the gradient is not enough.
            self.sae.w_dec.div_(self.sae.w_dec.norm(dim=1, keepdim=True))
        self.silent_for += len(x)
        self.silent_for[found.fired] = 0
        self.losses.append(value)

    def tenths(self) -> list[float]:
        """Mean loss in each tenth of the run."""
        return [float(part.mean()) for part in np.array_split(self.losses, 10) if len(part)]

    @torch.no_grad()
    def _set_gradients(self, found: Gradients) -> None:
        sae = self.sae
        along = (found.w_dec * sae.w_dec).sum(1, keepdim=True)
        sae.w_enc.grad, sae.b_enc.grad = found.w_enc, found.b_enc
        sae.w_dec.grad, sae.b_dec.grad = found.w_dec - along * sae.w_dec, found.b_dec
        torch.nn.utils.clip_grad_norm_(sae.parameters(), self.options.clip, foreach=False)

    def _schedule(self, at: int) -> float:
        """Factor of the rate: linear rise, plateau, linear fall to 0."""
        rise = max(1.0, self.options.warmup * self.steps)
        fall = max(1.0, self.options.decay * self.steps)
        return min(1.0, (at + 1) / rise, (self.steps - at) / fall)


def _shuffled(store: ActivationStore, options: SaeOptions) -> Iterator[np.ndarray]:
    """Batches of row indices: every epoch a new permutation over all languages."""
    rng = np.random.default_rng(seed_from("sae order", options.seed, store.layer))
    for _ in range(options.epochs):
        order = rng.permutation(len(store))
        for start in range(0, len(order), options.batch_size):
            yield order[start : start + options.batch_size]


def _moments(store: ActivationStore) -> tuple[Tensor, float, float]:
    """Mean row, mean squared distance from it, and sqrt(width) over the mean norm."""
    total = torch.zeros(store.width, dtype=torch.float64)
    squares = norms = 0.0
    for language in store.languages:
        for x, _ in store.batches(language, 8192):
            wide = x.double()
            total += wide.sum(0)
            squares += float(wide.square().sum())
            norms += float(wide.norm(dim=1).sum())
    mean = total / len(store)
    variance = squares / len(store) - float(mean.square().sum())
    if variance <= 0 or norms <= 0:
        raise InputError("sae: all activation rows are equal. Check the model and the data.")
    return mean.float(), variance, math.sqrt(store.width) * len(store) / norms
