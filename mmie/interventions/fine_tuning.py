"""Runs of the loop whose objective belongs to the kind: what is left to choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from mmie.errors import InputError
from mmie.training.settings import TrainingSettings


@dataclass(frozen=True)
class FineTuning:
    """The run of an arm with an objective of its own."""

    steps: int = 150
    """Optimiser steps."""
    learning_rate: float = 1e-3
    """Peak rate of AdamW."""
    batch: int = 32
    """Items of each set in a step."""
    micro_batch: int | None = None
    """Items in memory at once; None: the whole batch."""
    warmup_share: float = 0.1
    """Share of the steps in which the rate rises."""
    weight_decay: float = 0.0
    """Pulls the change, not the weights, to 0."""
    clip: float = 1.0
    """Largest gradient norm."""
    checkpoint_every: int = 25
    """Steps between resumable checkpoints."""

    @classmethod
    def read(cls, options: FineTuning | Mapping[str, Any], kind: str) -> FineTuning:
        """Accept the settings or the `training` block of an arm.

        Raises:
            InputError: an unknown key, or a value out of range.
        """
        if isinstance(options, FineTuning):
            return options
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise InputError(
                f"arm of kind {kind!r}: training.{unknown[0]} is unknown. Known: {', '.join(known)}."
            )
        read = cls(**options)
        read.settings(forget_weight=0.0, retain_objective="nll")
        return read

    def settings(self, **more: Any) -> TrainingSettings:
        """The settings of the loop, completed by the kind."""
        options = asdict(self)
        size = options.pop("batch")
        return TrainingSettings.from_options(
            {**options, "forget_batch": size, "retain_batch": size, "objective": "graddiff", **more}
        )

    def as_options(self) -> dict[str, Any]:
        """Plain JSON content."""
        return asdict(self)


class OwnObjective:
    """Before a trainable kind: its `training` is a `FineTuning`, for the objective is its own."""

    kind: ClassVar[str]
    training: Any

    def _read_training(self) -> FineTuning:
        return FineTuning.read(self.training, self.kind)
