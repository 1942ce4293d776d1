"""Closed-form edits of the residual stream: fitted on stored activations, applied by hooks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmie.activations.storage import load_rows
from mmie.errors import InputError
from mmie.interventions.interface import FitData, Fitted, Intervention
from mmie.interventions.layers import resolve_layers
from mmie.models.blocks import block_device, find_blocks
from mmie.models.hooks import Edit, edit


@dataclass
class StreamEdit(Intervention):
    """An edit at the output of chosen blocks. A kind says how one block is fitted and edited.

    Strength 0 attaches nothing: an exact identity.
    """

    layers: str | list[int] = "selected"
    """Edited blocks: all, selected, random, worst, middle, or a list."""
    strength: float = 1.0
    """1 is the full edit, 0 the identity, a negative one the opposite."""

    @property
    def seeded(self) -> bool:
        return self.layers == "random"

    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        if data.activations is None or not data.forget_languages or not data.retain_languages:
            raise InputError(
                f"arm of kind {self.kind!r}: stored activations of forget and retain languages are "
                "needed. Run the activation stage first."
            )
        layers = resolve_layers(self.layers, data, len(find_blocks(model)), self.kind, seed)
        facts: dict[str, Any] = {}
        tensors: dict[str, Tensor] = {}
        for layer in layers:
            own, parts = self._fit_layer(layer, data, data.activations, seed)
            facts[str(layer)] = own
            tensors |= {f"layers.{layer}.{name}": part.float() for name, part in parts.items()}
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        return Fitted({"layers": facts, "shapes": shapes}, tensors)

    @contextmanager
    def _attach(self, model: nn.Module) -> Iterator[nn.Module]:
        if self.strength == 0:
            yield model
            return
        blocks = find_blocks(model)
        fitted = self._require_fit()
        edits = {}
        for name, facts in fitted.facts["layers"].items():
            prefix, device = f"layers.{name}.", block_device(blocks[int(name)])
            parts = {
                key.removeprefix(prefix): value.to(device)
                for key, value in fitted.tensors.items()
                if key.startswith(prefix)
            }
            edits[int(name)] = self._edit(facts, parts)
        with edit(model, edits):
            yield model

    @abstractmethod
    def _fit_layer(
        self, layer: int, data: FitData, activations: Path, seed: int
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Facts and tensors of one block."""

    @abstractmethod
    def _edit(self, facts: Mapping[str, Any], parts: Mapping[str, Tensor]) -> Edit:
        """The edit of one block; its tensors are where the block computes."""

    def _shapes(self, facts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        return {name: tuple(shape) for name, shape in facts["shapes"].items()}


def components(activations: Path, layer: int, languages: tuple[str, ...], direction: Tensor) -> Tensor:
    """h.v of every kept FIT row of some languages, [rows], float64."""
    store = load_rows(activations, layer, languages, "fit")
    parts = [
        rows.double() @ direction.double()
        for language in languages
        for rows, _ in store.batches(language, 8192)
    ]
    return torch.cat(parts)
