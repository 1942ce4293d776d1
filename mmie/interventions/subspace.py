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
from mmie.interventions.baking import WRITERS, check_nothing_is_written, projected_writers
from mmie.interventions.interface import FitData, Fitted
from mmie.interventions.stream import StreamEdit
from mmie.interventions.weights import exchanged
from mmie.models.hooks import Edit


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
    these blocks add nothing along V; what earlier blocks wrote passes, and there is no mean to keep. A
    probe of a few tokens sees to it: blocks with a learnt norm after their writers cannot be baked.
    """

    kind: ClassVar[str] = "subspace"
    tensor_file: ClassVar[str] = "subspace.safetensors"

    rank: int = 1
    """Directions taken out; at most the number of forget languages."""
    baked: bool = False
    """Change weights instead of the stream; taken back afterwards like every arm."""
    writers: list[str] = field(default_factory=lambda: list(WRITERS))
    """Names of layers that write to the stream, for `baked`."""

    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        fitted = super()._fit(model, data, seed)
        if self.baked:
            # A model that cannot be baked is refused now, not when the arm is evaluated.
            with self._baked(model, fitted):
                pass
        return fitted

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
        with self._baked(model, self._require_fit()):
            yield model

    def _edit(self, facts: Mapping[str, Any], parts: Mapping[str, Tensor]) -> Edit:
        basis = parts["basis"]

        def act(hidden: Tensor, keep: Tensor) -> Tensor:
            return operations.project(hidden, basis, basis.T, parts["mean"], strength=self.strength)

        return act

    @contextmanager
    def _baked(self, model: nn.Module, fitted: Fitted) -> Iterator[nn.Module]:
        bases = {int(layer): fitted.tensors[f"layers.{layer}.basis"] for layer in fitted.facts["layers"]}
        full = projected_writers(model, bases, self.writers)
        with exchanged(model, full):
            check_nothing_is_written(model, bases, self.writers)
        if self.strength != 1:
            full = projected_writers(model, bases, self.writers, strength=self.strength)
        with exchanged(model, full):
            yield model


def _range(columns: Tensor) -> Tensor:
    """Orthonormal basis of the span of columns [width, n]."""
    basis, sizes, _ = torch.linalg.svd(columns, full_matrices=False)
    return basis[:, sizes > 1e-8 * max(float(sizes.max()), 1e-300)]
