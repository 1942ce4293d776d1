"""Stop where forgetting and retention together were best on rows that training never saw."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmie.training.reference import answer_sums
from mmie.training.sets import HeldOut
from mmie.training.settings import EarlyStopping, TrainingSettings
from mmie.training.terms import RetainTerm, micro_batches


def joint_criterion(model: nn.Module, held_out: HeldOut, *, batch_size: int) -> float:
    """Forgotten share of the held-out forget answers minus the divergence on held-out retain answers.

    The first part is the mean over items of 1 - exp(-max(0, L/T - L0/T)), the share of an answer's
    probability per token that is gone, in [0, 1); the second the mean KL(p0; p) over answer tokens, nats.
    Neither depends on the objective, so runs with different objectives can be compared. 0 for the base.

    Args:
        model: with the intervention in force.
        held_out: rows and their reference.
        batch_size: rows in a forward pass.

    Returns:
        Higher is better.
    """
    now = answer_sums(model, held_out.forget, batch_size)
    gains = [
        max(0.0, (value - start) / length)
        for value, start, length in zip(
            now, held_out.reference_nll, held_out.forget.answer_lengths, strict=True
        )
    ]
    forgotten = sum(1.0 - math.exp(-gain) for gain in gains) / len(gains)
    term = RetainTerm(model, held_out.retain, TrainingSettings(retain_objective="kl"))
    rows = range(len(held_out.retain))
    with torch.no_grad():
        divergence = sum(float(term.sums(part)[0].sum()) for part in micro_batches(rows, batch_size))
    return forgotten - divergence / term.count(rows)


class Stopper:
    """Remembers the best measurement and the parameters it was made with."""

    def __init__(self, options: EarlyStopping) -> None:
        """Nothing measured yet."""
        self.options = options
        self.best: dict[str, Tensor] = {}
        """Parameters of the best measurement, on the CPU."""
        self.best_step, self.best_value, self.since = 0, -math.inf, 0

    def due(self, done: int) -> bool:
        """Whether to measure after `done` steps."""
        return done % self.options.every == 0

    def record(self, done: int, value: float, parameters: Mapping[str, nn.Parameter]) -> None:
        """Take in a measurement made after `done` steps."""
        if value > self.best_value + self.options.improvement:
            self.best_step, self.best_value, self.since = done, value, 0
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in parameters.items()}
        else:
            self.since += 1

    @property
    def stop(self) -> bool:
        """Whether patience has run out."""
        return self.since >= self.options.patience

    def choose(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Put the best parameters back, in place; without any measurement the last ones stay."""
        with torch.no_grad():
            for name, tensor in self.best.items():
                parameters[name].copy_(tensor)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps beside `best`; null as long as nothing was measured."""
        value = self.best_value if self.best else None
        return {"best_step": self.best_step, "best_value": value, "since": self.since}

    def restore(self, state: Mapping[str, Any], best: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        self.best_step, self.since = state["best_step"], state["since"]
        self.best_value = -math.inf if state["best_value"] is None else state["best_value"]
        self.best = dict(best)
