"""The base of interventions that are trained: options, layers, and the run of the loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from mmie.interventions.interface import FitData, Intervention
from mmie.interventions.layers import resolve_layers
from mmie.interventions.trained import read_settings, run_training, training_sets
from mmie.models.blocks import find_blocks
from mmie.training.settings import TrainingSettings


@dataclass
class TrainedIntervention(Intervention):
    """Trained by NPO on forget answers and KL to the base on retain answers."""

    layers: str | list[int] = "all"
    """Blocks it acts on: all, selected, random, worst, middle, or a list."""
    training: TrainingSettings | dict[str, Any] = field(default_factory=TrainingSettings)
    """The run of the loop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.training = self._read_training()

    @property
    def seeded(self) -> bool:
        return True

    def options(self) -> dict[str, Any]:
        return super().options() | {"training": self._read_training().as_options()}

    def _read_training(self) -> Any:
        """The run of the loop, read and checked; another class where the kind has its own objective."""
        return read_settings(self.training)

    def _chosen_layers(self, model: nn.Module, data: FitData, seed: int) -> list[int]:
        return resolve_layers(self.layers, data, len(find_blocks(model)), self.kind, seed)

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
        """Train the attached parameters and keep the history.

        Args:
            model: with the intervention attached.
            parameters: the intervention's own, by name.
            data: forget and retain rows, tokenizer, reference.
            layers: blocks it acts on.
            base_hash: of the model before anything was attached.
            seed: of the order of the data.
        """
        recipe = {"kind": self.kind, "options": self.options(), "layers": layers, "base": base_hash}
        settings, sets = read_settings(self.training), training_sets(model, data)
        self.history = run_training(model, parameters, sets, settings, data, seed=seed, recipe=recipe)
