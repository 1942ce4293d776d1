"""LoReFT and its relatives: a low-rank edit of the residual stream at chosen blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mmie.errors import InputError
from mmie.interventions.interface import FitData, Fitted, base_weights_hash
from mmie.interventions.trainable import TrainedIntervention
from mmie.io import seed_from, write_json
from mmie.models.blocks import block_device, find_blocks
from mmie.models.hooks import Edit, edit

Variant = Literal["loreft", "noreft", "direft"]


class LoreftEdit(nn.Module):
    """Phi(h) = h + Q^T (W h + b - Q h), so that Q Phi(h) = W h + b.

    The rows of Q [rank, width] stay orthonormal: Q is the QR factor, with positive diagonal, of a free
    parameter. W starts as Q and b as 0, a deliberate deviation from the paper: step 0 is the
    reference, exactly.

    NoReFT: the same with free rows Q. DiReFT: h + Q^T (W h + b) with free rows Q; W starts as 0.
    """

    def __init__(
        self, rank: int, width: int, generator: torch.Generator, variant: Variant = "loreft"
    ) -> None:
        """Draw the free parameter; everything else follows from it."""
        super().__init__()
        self.variant = variant
        drawn = torch.randn(rank, width, generator=generator)
        self.free = nn.Parameter(drawn if variant == "loreft" else orthonormal_rows(drawn))
        start = self.Q.detach().clone()
        self.W = nn.Parameter(torch.zeros_like(start) if variant == "direft" else start)
        self.b = nn.Parameter(torch.zeros(rank))

    @property
    def Q(self) -> Tensor:
        """Rows [rank, width], orthonormal in LoReFT."""
        return orthonormal_rows(self.free) if self.variant == "loreft" else self.free

    def forward(self, hidden: Tensor, keep: Tensor) -> Tensor:
        """Edit the stream, [batch, time, width]; all kept positions, prompt and generated."""
        return VARIANTS[self.variant](hidden, self.Q, self.W, self.b)

    def stored(self) -> dict[str, Tensor]:
        """What is saved of the edit, by name."""
        return {"Q": self.Q, "W": self.W, "b": self.b}


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


def direft(hidden: Tensor, Q: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """h + Q^T (W h + b); arguments as in `loreft`, Q with any rows."""
    change = (hidden.float() @ W.T + b) @ Q
    return hidden + change.to(hidden.dtype)


VARIANTS: Mapping[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "loreft": loreft,
    "noreft": loreft,
    "direft": direft,
}
"""The formula of each variant; LoReFT and NoReFT differ in the rows of Q."""


def orthonormal_rows(free: Tensor) -> Tensor:
    """The orthonormal rows [rank, width] of a free matrix, by QR with positive diagonal.

    The sign is fixed because a row that came back with the other one would be another edit.
    """
    factor, triangle = torch.linalg.qr(free.T)
    sign = torch.where(triangle.diagonal() < 0, -1.0, 1.0)
    return (factor * sign).T


@dataclass
class Loreft(TrainedIntervention):
    """LoReFT, NoReFT or DiReFT edits, trained with any objective of the catalogue.

    Source: Wu et al. 2024 (arXiv 2404.03592).
    """

    kind: ClassVar[str] = "reft"
    tensor_file: ClassVar[str] = "reft.safetensors"

    rank: int = 8
    """Dimensions of the stream that each edit may set."""
    layers: str | list[int] = "selected"
    """Edited blocks: all, selected, or a list."""
    variant: Variant = "loreft"
    """loreft: orthonormal rows; noreft: free rows; direft: free rows that only add."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant not in VARIANTS:
            raise InputError(
                f"arm of kind 'reft': variant {self.variant!r}. Use one of {', '.join(VARIANTS)}."
            )

    def save(self, directory: str | Path) -> None:
        super().save(directory)
        facts = self._require_fit().facts
        description = {
            "kind": {"loreft": "LoReFT", "noreft": "NoReFT", "direft": "DiReFT"}[self.variant],
            "rank": self.rank,
            "layers": facts["layers"],
            "positions": "all",
            "dtype": "float32",
            "base_hash": facts["base_hash"],
            "init": "W = 0, b = 0" if self.variant == "direft" else "W = Q, b = 0",
        }
        write_json(Path(directory) / "reft.json", description)

    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        layers, base_hash = self._chosen_layers(model, data, seed), base_weights_hash(model)
        width = residual_width(model)
        edits = {layer: self._edit(layer, width, seed) for layer in layers}
        for layer, module in edits.items():
            module.to(block_device(find_blocks(model)[layer]))
        parameters = {
            f"layers.{layer}.{name}": value
            for layer, module in edits.items()
            for name, value in module.named_parameters()
        }
        with edit(model, edits):
            more = self._learn(edits, model, parameters, data, layers=layers, base_hash=base_hash, seed=seed)
        tensors = {
            f"layers.{layer}.{name}": value.detach().cpu().clone()
            for layer, module in edits.items()
            for name, value in module.stored().items()
        }
        count = sum(value.numel() for value in parameters.values())
        return Fitted({"layers": layers, "width": width, "parameters": count, **more}, tensors)

    @contextmanager
    def _attach(self, model: nn.Module) -> Iterator[nn.Module]:
        fitted = self._require_fit()
        blocks = find_blocks(model)
        edits = {
            layer: self._fixed(
                {
                    name.removeprefix(f"layers.{layer}."): value.to(block_device(blocks[layer]))
                    for name, value in fitted.tensors.items()
                    if name.startswith(f"layers.{layer}.")
                }
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

    def _learn(
        self,
        edits: Mapping[int, LoreftEdit],
        model: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        data: FitData,
        **run: Any,
    ) -> dict[str, Any]:
        """Train the attached edits; what is to be recorded besides."""
        self._train(model, parameters, data, **run)
        return {}

    def _fixed(self, tensors: Mapping[str, Tensor]) -> Edit:
        """The edit that the tensors of one layer describe."""
        Q, W, b = tensors["Q"], tensors["W"], tensors["b"]
        return lambda hidden, keep: VARIANTS[self.variant](hidden, Q, W, b)

    def _edit(self, layer: int, width: int, seed: int) -> LoreftEdit:
        generator = torch.Generator().manual_seed(seed_from("reft", seed, layer))
        return LoreftEdit(self.rank, width, generator, self.variant)


def residual_width(model: nn.Module) -> int:
    """Width of the residual stream: that of the token embedding."""
    return int(model.get_input_embeddings().weight.shape[1])  # type: ignore[operator]
