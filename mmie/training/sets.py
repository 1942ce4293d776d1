"""What a training run reads: encoded rows and what the base says about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmie.training.batches import Examples


@dataclass(frozen=True)
class HeldOut:
    """Rows of groups that are measured instead of trained on."""

    forget: Examples
    reference_nll: Sequence[float]
    """Summed answer NLL of each forget example under the base, nats."""
    retain: Examples


@dataclass(frozen=True)
class TrainingSets:
    """What a run reads."""

    forget: Examples
    reference_nll: Sequence[float]
    """Summed answer NLL of each forget example under the frozen reference, nats."""
    retain: Examples
    alternates: Examples | None = None
    """The forget prompts with other answers, row by row."""
    alternate_nll: Sequence[float] | None = None
    """Summed NLL of the other answers under the frozen reference, nats."""
    retain_limit: float | None = None
    """Mean answer NLL of the base on the retain rows, for constraints."""
    held_out: HeldOut | None = None
    """For early stopping."""
