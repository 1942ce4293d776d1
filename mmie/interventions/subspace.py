"""A subspace of the stream that tells forget from retain languages, projected out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmie.activations.moments import label_languages
from mmie.errors import InputError
from mmie.interventions import operations
from mmie.interventions.interface import FitData
from mmie.interventions.stream import StreamEdit
from mmie.interventions.weights import exchanged
from mmie.models.blocks import block_device, find_blocks
from mmie.models.hooks import Edit

WRITERS = ("o_proj", "down_proj", "c_proj", "out_proj", "dense", "dense_4h_to_h", "fc2")


def projector(basis: Tensor) -> Tensor:
    """V V', [width, width], symmetric and idempotent, for orthonormal columns V [width, k]."""
    return basis @ basis.T


def subspace_basis(forget: Tensor, retain: Tensor, rank: int) -> Tensor:
    """Top principal directions of forget means against the retain mean, away from the retain subspace.

    Args:
        forget: class means of forget languages, [classes, width].
        retain: class means of retain languages, [classes, width].
        rank: how many directions.

    Returns:
        Orthonormal columns [width, rank]; they are orthogonal to every difference of retain means.

    Raises:
        InputError: fewer directions than `rank` are left.
    """
    centre = retain.mean(0)
    differences = forget - centre
    spread = _range((retain - centre).T)
    differences = differences - differences @ projector(spread)
    basis, sizes, _ = torch.linalg.svd(differences.T, full_matrices=False)
    found = int((sizes > 1e-8 * max(float(sizes.max()), 1e-300)).sum())
    if rank > found:
        raise InputError(
            f"arm of kind 'subspace': rank {rank}, but {len(forget)} forget languages span {found} "
            "directions outside the retain subspace. Lower `rank`."
        )
    return basis[:, :rank]


@dataclass
class SubspaceProjection(StreamEdit):
    """h' = mu + (I - V V')(h - mu): deviations from the mean of all FIT rows lose the subspace V.

    The mean itself stays where it is: components of centred data are removed from centred states.
    Baked, the matrices of the chosen blocks that write to the stream are projected instead, so that
    these blocks add nothing along V; what earlier blocks wrote passes, and there is no mean to keep.
    """

    kind: ClassVar[str] = "subspace"
    tensor_file: ClassVar[str] = "subspace.safetensors"

    rank: int = 1
    """Directions taken out; at most the number of forget languages."""
    baked: bool = False
    """Change weights instead of the stream; taken back afterwards like every arm."""
    writers: list[str] = field(default_factory=lambda: list(WRITERS))
    """Names of linear layers that write to the stream, for `baked`."""

    def _fit_layer(
        self, layer: int, data: FitData, activations: Path, seed: int
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        languages = [*data.forget_languages, *data.retain_languages]
        moments = label_languages(activations, layer, {name: [name] for name in languages}).moments()
        split = len(data.forget_languages)
        basis = subspace_basis(moments.means[:split], moments.means[split:], self.rank)
        return {"rows": moments.rows}, {"basis": basis, "mean": moments.mean}

    @contextmanager
    def _attach(self, model: nn.Module) -> Iterator[nn.Module]:
        if not self.baked or self.strength == 0:
            with super()._attach(model):
                yield model
            return
        with exchanged(model, self._projected(model)):
            yield model

    def _edit(self, facts: Mapping[str, Any], parts: Mapping[str, Tensor]) -> Edit:
        basis = parts["basis"]

        def act(hidden: Tensor, keep: Tensor) -> Tensor:
            return operations.project(hidden, basis, basis.T, parts["mean"], strength=self.strength)

        return act

    def _projected(self, model: nn.Module) -> dict[str, Tensor]:
        """W <- (I - V V') W for the writing matrices (and biases) of the chosen blocks."""
        blocks, fitted = find_blocks(model), self._require_fit()
        names = {id(module): name for name, module in model.named_modules()}
        changed: dict[str, Tensor] = {}
        for layer in fitted.facts["layers"]:
            basis = fitted.tensors[f"layers.{layer}.basis"]
            block = blocks[int(layer)]
            written = [
                (names[id(module)], module)
                for name, module in block.named_modules()
                if name.rpartition(".")[2] in self.writers and hasattr(module, "weight")
            ]
            if not written:
                raise InputError(
                    f"arm of kind 'subspace': block {layer} has no layer named {', '.join(self.writers)}. "
                    "Set `writers` to the layers that write to the stream."
                )
            for name, module in written:
                changed |= self._without(name, module, basis.to(block_device(module)))
        return changed

    def _without(self, name: str, module: nn.Module, basis: Tensor) -> dict[str, Tensor]:
        outward = module.get_parameter("weight").detach().float()
        # transformers' Conv1D (GPT-2) stores [in, out], linear layers [out, in].
        if not isinstance(module, nn.Linear):
            outward = outward.T
        if outward.shape[0] != len(basis):
            raise InputError(f"arm of kind 'subspace': {name} does not write to the stream. Mend `writers`.")
        outward = outward - self.strength * basis @ (basis.T @ outward)
        if not isinstance(module, nn.Linear):
            outward = outward.T
        found = {f"{name}.weight": outward.contiguous()}
        bias = getattr(module, "bias", None)
        if bias is not None:
            own = bias.detach().float()
            found[f"{name}.bias"] = own - self.strength * basis @ (basis.T @ own)
        return found


def _range(columns: Tensor) -> Tensor:
    """Orthonormal basis of the span of columns [width, n]."""
    basis, sizes, _ = torch.linalg.svd(columns, full_matrices=False)
    return basis[:, sizes > 1e-8 * max(float(sizes.max()), 1e-300)]
