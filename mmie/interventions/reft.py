"""LoReFT: a low-rank edit of the residual stream at chosen blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmie.interventions.interface import (
    FitData,
    Fitted,
    Intervention,
    base_weights_hash,
    resolve_layers,
)
from mmie.interventions.trained import read_settings, run_training, training_sets
from mmie.io import seed_from, write_json
from mmie.models.blocks import find_blocks
from mmie.models.hooks import edit
from mmie.training.settings import TrainingSettings


class LoreftEdit(nn.Module):
    """Phi(h) = h + Q^T (W h + b - Q h), so that Q Phi(h) = W h + b.

    The rows of Q [rank, width] stay orthonormal: Q is the QR factor, with positive diagonal, of a free
    parameter. W starts as Q and b as 0, a deliberate deviation from the paper: step 0 is the
    reference, exactly.
    """

    def __init__(self, rank: int, width: int, generator: torch.Generator) -> None:
        """Draw the free parameter; everything else follows from it."""
        super().__init__()
        self.free = nn.Parameter(torch.randn(rank, width, generator=generator))
        self.W = nn.Parameter(self.Q.detach().clone())
        self.b = nn.Parameter(torch.zeros(rank))

    @property
    def Q(self) -> Tensor:
        """Orthonormal rows, [rank, width]."""
        return orthonormal_rows(self.free)

    def forward(self, hidden: Tensor, keep: Tensor) -> Tensor:
        """Edit the stream, [batch, time, width]; all kept positions, prompt and generated."""
        return loreft(hidden, self.Q, self.W, self.b)


def loreft(hidden: Tensor, Q: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """h + Q^T (W h + b - Q h), computed in float32, returned in the type of `hidden`.

    Args:
        hidden: [..., width].
        Q: orthonormal rows, [rank, width].
        W: [rank, width].
        b: [rank].

    Source: Wu et al. 2024 (arXiv 2404.03592).
    """
    # W - Q first: at W = Q the change is exactly 0, not the difference of two roundings.
    change = (hidden.float() @ (W - Q).T + b) @ Q
    return hidden + change.to(hidden.dtype)


def orthonormal_rows(free: Tensor) -> Tensor:
    """The orthonormal rows [rank, width] of a free matrix, by QR with positive diagonal.

    The sign is fixed because a row that came back with the other one would be another edit.
    """
    factor, triangle = torch.linalg.qr(free.T)
    sign = torch.where(triangle.diagonal() < 0, -1.0, 1.0)
    return (factor * sign).T


@dataclass
class Loreft(Intervention):
    """LoReFT edits, trained by NPO on forget answers and KL to the base on retain answers."""

    kind: ClassVar[str] = "reft"
    tensor_file: ClassVar[str] = "reft.safetensors"

    rank: int = 8
    """Dimensions of the stream that each edit may set."""
    layers: str | list[int] = "selected"
    """Edited blocks: all, selected, or a list."""
    training: TrainingSettings | dict[str, Any] = field(default_factory=TrainingSettings)
    """The run of the loop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.training = read_settings(self.training)

    @property
    def seeded(self) -> bool:
        return True

    def options(self) -> dict[str, Any]:
        return super().options() | {"training": read_settings(self.training).as_options()}

    def save(self, directory: str | Path) -> None:
        super().save(directory)
        facts = self._require_fit().facts
        description = {
            "kind": "LoReFT",
            "rank": self.rank,
            "layers": facts["layers"],
            "positions": "all",
            "dtype": "float32",
            "base_hash": facts["base_hash"],
            "init": "W = Q, b = 0",
        }
        write_json(Path(directory) / "reft.json", description)

    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        layers = resolve_layers(self.layers, data.layers, len(find_blocks(model)), self.kind)
        settings, sets = read_settings(self.training), training_sets(model, data)
        recipe = {
            "kind": self.kind,
            "options": self.options(),
            "layers": layers,
            "base": base_weights_hash(model),
        }
        width = residual_width(model)
        edits = {layer: self._edit(layer, width, seed) for layer in layers}
        for layer, module in edits.items():
            module.to(next(find_blocks(model)[layer].parameters()).device)
        parameters = {
            f"layers.{layer}.{name}": value
            for layer, module in edits.items()
            for name, value in module.named_parameters()
        }
        with edit(model, edits):
            self.history = run_training(model, parameters, sets, settings, data, seed=seed, recipe=recipe)
        tensors = {
            f"layers.{layer}.{name}": value.detach().cpu().clone()
            for layer, module in edits.items()
            for name, value in (("Q", module.Q), ("W", module.W), ("b", module.b))
        }
        count = sum(value.numel() for value in parameters.values())
        return Fitted({"layers": layers, "width": width, "parameters": count}, tensors)

    @contextmanager
    def _attach(self, model: nn.Module) -> Iterator[nn.Module]:
        fitted = self._require_fit()
        blocks = find_blocks(model)
        edits = {
            layer: _fixed_edit(
                *(
                    fitted.tensors[f"layers.{layer}.{name}"].to(next(blocks[layer].parameters()).device)
                    for name in "QWb"
                )
            )
            for layer in fitted.facts["layers"]
        }
        with edit(model, edits):
            yield model

    def _shapes(self, facts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        matrix = (self.rank, facts["width"])
        return {
            f"layers.{layer}.{name}": shape
            for layer in facts["layers"]
            for name, shape in (("Q", matrix), ("W", matrix), ("b", (self.rank,)))
        }

    def _edit(self, layer: int, width: int, seed: int) -> LoreftEdit:
        generator = torch.Generator().manual_seed(seed_from("reft", seed, layer))
        return LoreftEdit(self.rank, width, generator)


def residual_width(model: nn.Module) -> int:
    """Width of the residual stream: that of the token embedding."""
    return int(model.get_input_embeddings().weight.shape[1])  # type: ignore[operator]


def _fixed_edit(Q: Tensor, W: Tensor, b: Tensor) -> Any:
    return lambda hidden, keep: loreft(hidden, Q, W, b)
