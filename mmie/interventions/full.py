"""Full fine-tuning: every weight may change, and the change is what is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from mmie.interventions.deltas import moved, trainable_deltas, weight_names
from mmie.interventions.interface import FitData, Fitted, base_weights_hash
from mmie.interventions.trainable import TrainedIntervention


@dataclass
class FullFineTuning(TrainedIntervention):
    """All weights of the model, or of some blocks, trained with any objective of the catalogue.

    Weight decay acts on the change: it pulls the model to the base, not to 0.
    """

    kind: ClassVar[str] = "full"
    tensor_file: ClassVar[str] = "delta.safetensors"

    layers: str | list[int] = "all"
    """Blocks whose weights are trained; all: embeddings, norms and head too."""

    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        layers, base_hash = self._chosen_layers(model, data, seed), base_weights_hash(model)
        names = weight_names(model, None if self.layers == "all" else layers, None)
        with trainable_deltas(model, names) as deltas:
            self._train(model, deltas, data, layers=layers, base_hash=base_hash, seed=seed)
            return Fitted({"layers": layers, **change_facts(deltas)}, stored(deltas))

    @contextmanager
    def _attach(self, model: nn.Module) -> Iterator[nn.Module]:
        with moved(model, self._require_fit().tensors):
            yield model

    def _shapes(self, facts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        return change_shapes(facts)


def stored(deltas: Mapping[str, nn.Parameter]) -> dict[str, Any]:
    """Trained changes as tensors to save, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in deltas.items()}


def change_facts(deltas: Mapping[str, nn.Parameter]) -> dict[str, Any]:
    """What is recorded of changed weights: names with shapes, and how many numbers they hold."""
    return {
        "weights": {name: list(value.shape) for name, value in deltas.items()},
        "parameters": sum(value.numel() for value in deltas.values()),
    }


def change_shapes(facts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Inverse of `change_facts`: the tensors that a saved arm must hold."""
    return {name: tuple(shape) for name, shape in facts["weights"].items()}
