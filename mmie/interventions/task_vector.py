"""Task arithmetic: learn the forget set on purpose, then go the other way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from mmie.errors import InputError
from mmie.interventions.deltas import moved, trainable_deltas, weight_names
from mmie.interventions.fine_tuning import FineTuning
from mmie.interventions.full import change_facts, change_shapes, stored
from mmie.interventions.interface import FitData, Fitted, Intervention, base_weights_hash
from mmie.interventions.layers import resolve_layers
from mmie.interventions.trained import encoded, run_training
from mmie.models.blocks import find_blocks
from mmie.training.sets import TrainingSets


@dataclass
class TaskVector(Intervention):
    """theta = theta0 - strength * (theta_FT - theta0), theta_FT the base fine-tuned on forget answers.

    Full weights are subtracted from full weights. No retain row is read: what else is lost, is lost.

    Source: Ilharco et al. 2022 (arXiv 2212.04089).
    """

    kind: ClassVar[str] = "task_vector"
    tensor_file: ClassVar[str] = "delta.safetensors"

    strength: float = 1.0
    """Share of the change that is subtracted; 0 is the identity, -1 the fine-tuned model."""
    layers: str | list[int] = "all"
    """Blocks that are fine-tuned; all: embeddings, norms and head too."""
    training: FineTuning | dict[str, Any] = field(default_factory=FineTuning)
    """The fine-tuning."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.training = FineTuning.read(self.training, self.kind)

    @property
    def seeded(self) -> bool:
        return True

    def options(self) -> dict[str, Any]:
        return super().options() | {"training": FineTuning.read(self.training, self.kind).as_options()}

    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        if data.forget is None or data.tokenizer is None:
            raise InputError("arm of kind 'task_vector': it needs a tokenizer and forget rows. Give both.")
        layers = resolve_layers(self.layers, data, len(find_blocks(model)), self.kind, seed)
        forget = encoded(model, data.forget, data.tokenizer, "forget")
        # Descending on the forget rows is what the loop does with rows that are to be kept.
        sets = TrainingSets(forget, [0.0] * len(forget), retain=forget)
        settings = FineTuning.read(self.training, self.kind).settings(
            forget_weight=0.0, retain_weight=1.0, retain_objective="nll"
        )
        # Strength is applied afterwards: another one continues from the same checkpoint.
        options = {name: value for name, value in self.options().items() if name != "strength"}
        recipe = {"kind": self.kind, "options": options, "base": base_weights_hash(model)}
        names = weight_names(model, None if self.layers == "all" else layers, None)
        with trainable_deltas(model, names) as deltas:
            history = run_training(model, deltas, sets, settings, data, seed=seed, recipe=recipe)
            facts = {"layers": layers, **change_facts(deltas)}
            # What the loop calls retained here are the forget answers that are learned.
            self.history = history.rename(columns=_LEARNED)
            return Fitted(facts, stored(deltas))

    @contextmanager
    def _attach(self, model: nn.Module) -> Iterator[nn.Module]:
        with moved(model, self._require_fit().tensors, -self.strength):
            yield model

    def _shapes(self, facts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        return change_shapes(facts)


_LEARNED = {"retain_loss": "learning_loss", "retain_items": "learning_items"}
