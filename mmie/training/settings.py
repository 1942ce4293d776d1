"""What a training run is made of; every constant is here, none is hidden in the loop."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from mmie.errors import InputError

FORGET_OBJECTIVES = ("npo", "gradient_ascent")
RETAIN_OBJECTIVES = ("kl", "nll")


@dataclass(frozen=True)
class TrainingSettings:
    """One run of the loop: J = forget_weight * L_F + retain_weight * L_R in every step."""

    steps: int = 150
    """Optimiser steps, at least 2: the first step of an adapter moves only half of its factors."""
    learning_rate: float = 1e-3
    """Peak rate of AdamW."""
    forget_batch: int = 32
    """Forget items in a step."""
    retain_batch: int = 32
    """Retain items in a step."""
    micro_batch: int | None = None
    """Items in memory at once; gradients are accumulated with true counts. None: the whole batch."""
    objective: str = "npo"
    """Forget term: npo or gradient_ascent."""
    retain_objective: str = "kl"
    """Retain term: kl (to the model without its intervention) or nll."""
    beta: float = 0.1
    """Inverse temperature of NPO."""
    forget_weight: float = 1.0
    """gamma."""
    retain_weight: float = 1.0
    """alpha."""
    warmup_share: float = 0.1
    """Share of the steps in which the rate rises; afterwards it falls linearly to almost 0."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    clip: float = 1.0
    """Largest gradient norm."""
    checkpoint_every: int = 25
    """Steps between resumable checkpoints."""
    language_weights: dict[str, float] | None = None
    """Sampling weight of each language in both sets; None: every row equally often."""

    def __post_init__(self) -> None:
        wrong = [
            name
            for name, right in {
                "steps": self.steps >= 2,
                "learning_rate": self.learning_rate > 0,
                "forget_batch": self.forget_batch >= 1,
                "retain_batch": self.retain_batch >= 1,
                "micro_batch": self.micro_batch is None or self.micro_batch >= 1,
                "objective": self.objective in FORGET_OBJECTIVES,
                "retain_objective": self.retain_objective in RETAIN_OBJECTIVES,
                "beta": self.beta > 0,
                "forget_weight": self.forget_weight >= 0,
                "retain_weight": self.retain_weight >= 0,
                "warmup_share": 0 <= self.warmup_share <= 1,
                "weight_decay": self.weight_decay >= 0,
                "clip": self.clip > 0,
                "checkpoint_every": self.checkpoint_every >= 1,
            }.items()
            if not right
        ]
        if wrong:
            values = ", ".join(f"training.{name} = {getattr(self, name)!r}" for name in wrong)
            raise InputError(f"{values}: outside the allowed range. See docs/configuration.md.")

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> TrainingSettings:
        """Read the settings from a config block.

        Raises:
            InputError: an unknown key or a value out of range.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(options) - known)
        if unknown:
            raise InputError(f"training.{unknown[0]}: unknown key. Known: {', '.join(sorted(known))}.")
        return cls(**options)

    def as_options(self) -> dict[str, Any]:
        """The settings as plain JSON content."""
        return asdict(self)


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Rate of optimiser step `step` (from 0): linear rise, then linear fall; never exactly 0."""
    warmup = round(settings.warmup_share * settings.steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    return settings.learning_rate * (settings.steps - step) / (settings.steps - warmup)
