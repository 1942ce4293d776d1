"""LingTea: gradient ascent on forget answers, adaptive distillation on retain answers, in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmie.errors import InputError
from mmie.interventions.fine_tuning import FineTuning, OwnObjective
from mmie.interventions.interface import FitData
from mmie.interventions.lora import LowRankAdapters
from mmie.interventions.trained import run_training, sets_without_reference
from mmie.models.hooks import disabled
from mmie.objectives.distillation import adaptive_distillation
from mmie.objectives.registry import item_sums
from mmie.training.batches import Examples
from mmie.training.forward import answer_logits


@dataclass
class LingTea(OwnObjective, LowRankAdapters):
    """LoRA trained by -E_F[L/T] in even steps and by `retain_weight` times adaptive distillation in odd ones.

    The teacher is the base: the same weights with the adapter off. The paper alternates whole epochs, here
    steps alternate.

    Source: Choi et al. 2024 (arXiv 2406.12354).
    """

    kind: ClassVar[str] = "lingtea"

    temperature: float = 1.0
    """tau of the distillation."""
    retain_weight: float = 2.0
    """Multiplier of the retain steps."""
    training: FineTuning | dict[str, Any] = field(default_factory=FineTuning)  # type: ignore[assignment]
    """The run of the loop; steps count forget and retain steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature <= 0 or self.retain_weight <= 0:
            raise InputError("arm of kind 'lingtea': temperature and retain_weight must be above 0.")

    def _train(
        self,
        model: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        data: FitData,
        *,
        layers: list[int],
        base_hash: str,
        seed: int,
    ) -> None:
        sets = sets_without_reference(model, data, self.kind)
        settings = self._read_training().settings(
            retain_objective="nll", retain_weight=self.retain_weight, schedule="alternating"
        )
        recipe = {"kind": self.kind, "options": self.options(), "layers": layers, "base": base_hash}
        term = DistillationTerm(model, sets.retain, self.temperature)
        self.history = run_training(
            model,
            parameters,
            sets,
            settings,
            data,
            seed=seed,
            recipe=recipe,
            own_terms={"retain": term},
        )


class DistillationTerm:
    """Adaptive distillation to the model with its adapter off, mean over answer tokens."""

    name = "retain"

    def __init__(self, model: nn.Module, examples: Examples, temperature: float) -> None:
        """Prepare; the model carries the adapter."""
        self.model, self.examples, self.temperature = model, examples, temperature
        self._lengths = examples.answer_lengths

    def count(self, rows: Sequence[int]) -> int:
        return sum(self._lengths[row] for row in rows)

    def sums(self, rows: Sequence[int]) -> tuple[Tensor, None]:
        batch = self.examples.batch(rows)
        with torch.no_grad(), disabled(self.model):
            reference, targets, mask = answer_logits(self.model, batch)
        logits, _, _ = answer_logits(self.model, batch)
        values = adaptive_distillation(logits[mask], targets[mask], reference[mask], self.temperature)
        return item_sums(values, mask), None
