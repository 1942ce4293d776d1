"""Train an autoencoder on the stored activations of several languages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmie.activations.storage import ActivationStore
from mmie.errors import InputError
from mmie.io import seed_from
from mmie.sae.architectures import build
from mmie.sae.autoencoder import SparseAutoencoder
from mmie.sae.centre import ROWS, geometric_median
from mmie.sae.jumprelu import BatchTopKSAE
from mmie.sae.options import SaeOptions
from mmie.sae.trainer import Trainer

__all__ = ["SaeOptions", "train_sae"]

SET_ASIDE = 0.05
"""Share of the rows that calibrates a threshold and is not trained on."""
MOST_SET_ASIDE = 16_384


def train_sae(
    store: ActivationStore, options: SaeOptions | None = None, *, device: str | torch.device = "cpu"
) -> tuple[SparseAutoencoder, dict[str, Any]]:
    """Fit an autoencoder to the rows of the store in a seeded order that mixes the languages.

    The rows are scaled by one constant while training; the result takes them unscaled. Architectures
    with one threshold for all latents are calibrated on a twentieth of the rows, which they are not
    trained on.

    Args:
        store: rows of one layer, FIT split.
        options: size and training.
        device: where it is trained.

    Returns:
        The autoencoder (fp32, on the CPU) and what training says of itself: rows, steps, scale,
        variance, loss by tenth of the run, share of dead latents, seconds are the caller's.

    Raises:
        InputError: too few rows for the size, or a loss that is not finite.
    """
    options = options or SaeOptions()
    latents = options.expansion * store.width
    sae = build(options.architecture, store.width, latents, options.k, options.prefixes)
    training_rows, calibration_rows = _divide(store, options, isinstance(sae, BatchTopKSAE))
    budget = options.epochs * len(training_rows)
    if budget < options.minimum_tokens_per_latent * latents:
        raise InputError(
            f"sae: {budget} rows over {options.epochs} epochs for {latents} latents, fewer than "
            f"{options.minimum_tokens_per_latent} a latent. Add data, lower sae.expansion, or lower "
            "sae.minimum_tokens_per_latent."
        )
    mean, variance, scale = _moments(store)
    centre = mean if options.centre == "mean" else geometric_median(_sample(store, options))
    generator = torch.Generator().manual_seed(seed_from("sae weights", options.seed, store.layer) % 2**62)
    sae.initialise(
        centre * scale,
        generator,
        rows=_rows_of_latents(store, options, training_rows, latents) * scale,
        data_share=options.data_share,
    )
    sae.to(device)
    steps = math.ceil(len(training_rows) / options.batch_size) * options.epochs
    trainer = Trainer(sae, options, variance * scale**2, steps=steps, budget=budget)
    for at, rows in enumerate(_shuffled(store, options, training_rows)):
        trainer.step(store[rows].to(device) * scale, at)
    report: dict[str, Any] = {"architecture": options.architecture}
    if isinstance(sae, BatchTopKSAE):
        report["threshold"] = sae.calibrate(store[calibration_rows].to(device) * scale) / scale
        report["calibration_rows"] = len(calibration_rows)
    sae.fold_scale(scale)
    sae.requires_grad_(False).to("cpu")
    report |= {
        "rows": len(training_rows),
        "tokens": budget,
        "tokens_per_latent": budget / latents,
        "latents": latents,
        "steps": steps,
        "learning_rate": trainer.rate,
        "encoder": "bfloat16 screen" if trainer.screen else "float32",
        "centre": options.centre,
        "data_share": options.data_share,
        "input_scale": scale,
        "variance": variance,
        "mean_over_deviation": float(mean.norm()) / math.sqrt(variance),
        "languages": {language: len(store.range_of(language)) for language in store.languages},
        "loss": trainer.tenths(),
        "dead_share_in_training": float(trainer.dead().float().mean()),
        "seed": options.seed,
    }
    return sae, report


def _divide(store: ActivationStore, options: SaeOptions, calibrates: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows to calibrate on; the latter are few, seeded, and none where not needed."""
    everything = np.arange(len(store))
    if not calibrates:
        return everything, everything[:0]
    count = min(MOST_SET_ASIDE, max(1, round(SET_ASIDE * len(store))))
    rng = np.random.default_rng(seed_from("sae calibration", options.seed, store.layer))
    aside = np.sort(rng.choice(everything, count, replace=False))
    return np.setdiff1d(everything, aside), aside


def _rows_of_latents(
    store: ActivationStore, options: SaeOptions, training_rows: np.ndarray, latents: int
) -> Tensor:
    """A training row for each latent, [latents, width]; no place is drawn twice where there are enough."""
    rng = np.random.default_rng(seed_from("sae rows of latents", options.seed, store.layer))
    # Not sorted: the inner widths of a Matryoshka autoencoder would start at one language alone.
    return store[rng.choice(training_rows, latents, replace=latents > len(training_rows))]


def _sample(store: ActivationStore, options: SaeOptions) -> Tensor:
    rng = np.random.default_rng(seed_from("sae centre", options.seed, store.layer))
    return store[np.sort(rng.choice(len(store), min(ROWS, len(store)), replace=False))]


def _shuffled(
    store: ActivationStore, options: SaeOptions, rows: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Batches of row indices: every epoch a new permutation over all languages."""
    rng = np.random.default_rng(seed_from("sae order", options.seed, store.layer))
    rows = np.arange(len(store)) if rows is None else rows
    for _ in range(options.epochs):
        order = rows[rng.permutation(len(rows))]
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
