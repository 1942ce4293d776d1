"""LEACE: the smallest linear edit after which no linear probe reads a concept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mmie.activations.moments import Moments, label_languages
from mmie.errors import InputError
from mmie.interventions import operations
from mmie.interventions.interface import FitData
from mmie.interventions.stream import StreamEdit
from mmie.io import seed_from
from mmie.models.hooks import Edit

CONCEPTS = ("language", "forget")
TOLERANCE = 0.01
"""Directions of the whitened cross-covariance below this correlation are taken for noise."""
FEWEST_ROWS, ENOUGH_ROWS = 1, 8
"""Rows for each dimension: fewer than the first is an error, fewer than the second a warning."""


@dataclass(frozen=True)
class Eraser:
    """r(x) = x - L R (x - mean)."""

    mean: Tensor
    """[width]."""
    left: Tensor
    """L, [width, k]."""
    right: Tensor
    """R, [k, width]."""

    def __call__(self, rows: Tensor) -> Tensor:
        """Erase the concept from rows [..., width]."""
        return rows - (rows - self.mean) @ self.right.T @ self.left.T


def fit_eraser(moments: Moments, *, tolerance: float = TOLERANCE, shrink: bool = True) -> Eraser:
    """r(x) = x - W^+ P W (x - E x), with W = (S_xx^1/2)^+ and P the projector on the columns of W S_xz.

    Afterwards the covariance of rows and classes is 0 on the rows that were fitted, so the best linear
    probe is a constant; out of sample that needs many more rows than dimensions (with as many as
    dimensions, probes still reach 0.8). Where the edit would enlarge the total variance, it is mixed
    with the orthogonal projector until it does not.

    Args:
        moments: of the rows, with the classes of the concept.
        tolerance: smallest correlation that counts as concept.
        shrink: regularise the covariance by the optimal linear shrinkage (Bodnar et al. 2014).

    Raises:
        InputError: fewer rows than dimensions.

    Source: Belrose et al. 2023 (arXiv 2306.03819); EleutherAI/concept-erasure.
    """
    width = len(moments.mean)
    if moments.rows < FEWEST_ROWS * width:
        raise InputError(
            f"leace: {moments.rows} rows for {width} dimensions would erase nothing out of sample. "
            f"Give at least {ENOUGH_ROWS * width} rows, better {32 * width}."
        )
    covariance = shrunk(moments.covariance, moments.rows) if shrink else moments.covariance
    values, vectors = torch.linalg.eigh(covariance)
    # Dimensions without variance carry no concept; inverting them would only enlarge rounding.
    solid = values > values.max() * torch.finfo(values.dtype).eps * width
    root = torch.where(solid, values.clamp(min=0).sqrt(), 0.0)
    inverse = torch.where(solid, 1 / root.clamp(min=1e-300), 0.0)
    whiten, unwhiten = (vectors * inverse) @ vectors.T, (vectors * root) @ vectors.T
    cross = moments.cross_covariance
    basis, sizes, _ = torch.linalg.svd(whiten @ cross, full_matrices=False)
    basis = basis[:, sizes > tolerance]
    left, right = unwhiten @ basis, basis.T @ whiten
    left, right = _bounded(left, right, cross, moments.covariance)
    return Eraser(moments.mean, left, right)


def shrunk(covariance: Tensor, rows: int) -> Tensor:
    """Optimal linear shrinkage of a covariance towards a multiple of the identity, same trace.

    Source: Bodnar et al. 2014 (Journal of Multivariate Analysis 132).
    """
    width = len(covariance)
    trace, square = covariance.trace(), (covariance**2).sum()
    target = 1 / width  # squared norm of identity / width
    spread = square * target - (trace / width) ** 2
    if spread <= 0:
        return covariance
    keep = (1 - trace**2 * target / rows / spread).clamp(0, 1)
    return keep * covariance + (1 - keep) * trace / width * torch.eye(width, dtype=covariance.dtype)


def _bounded(left: Tensor, right: Tensor, cross: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Mix with the orthogonal projector where the oblique one would enlarge the total variance."""
    eye = torch.eye(len(left), dtype=left.dtype)
    oblique = eye - left @ right
    before, after = covariance.trace(), (oblique @ covariance @ oblique.T).trace()
    if after <= before or left.shape[1] == 0:
        return left, right
    columns, sizes, _ = torch.linalg.svd(cross, full_matrices=False)
    columns = columns[:, sizes > sizes.max() * 1e-6]
    orthogonal = eye - columns @ columns.T
    mixed = (oblique @ covariance @ orthogonal.T).trace()
    least = (orthogonal @ covariance @ orthogonal.T).trace()
    # Trace of the mixture a P + (1 - a) Q is a quadratic in a that is `least` < before at 0.
    curve, slope = after - 2 * mixed + least, mixed - least
    root = (slope**2 - curve * (least - before)).clamp(min=0).sqrt()
    share = float(((root - slope) / curve).clamp(0, 1)) if curve > 0 else 0.0
    return torch.cat([share * left, (1 - share) * columns], 1), torch.cat([right, columns.T])


@dataclass
class Leace(StreamEdit):
    """Erases which language a token is in (`language`), or whether it is a forget one (`forget`)."""

    kind: ClassVar[str] = "leace"
    tensor_file: ClassVar[str] = "leace.safetensors"

    concept: str = "language"
    """language: one class a language; forget: forget languages against all others."""
    shuffled: bool = False
    """Fit on items with permuted labels: a control that must not forget."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.concept not in CONCEPTS:
            raise InputError(
                f"arm of kind {self.kind!r}: concept {self.concept!r}. Use one of {', '.join(CONCEPTS)}."
            )

    @property
    def seeded(self) -> bool:
        return super().seeded or self.shuffled

    def _classes(self, data: FitData) -> dict[str, Sequence[str]]:
        if self.concept == "forget":
            return {"forget": data.forget_languages, "retain": data.retain_languages}
        return {language: [language] for language in (*data.forget_languages, *data.retain_languages)}

    def _fit_layer(
        self, layer: int, data: FitData, activations: Path, seed: int
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        rng = np.random.default_rng(seed_from("leace", seed, layer)) if self.shuffled else None
        classes = self._classes(data)
        labelled = label_languages(activations, layer, classes, paired=self._paired, shuffle=rng)
        moments = labelled.moments()
        eraser = fit_eraser(moments)
        width = labelled.store.width
        facts = {
            "rows": moments.rows,
            "classes": list(classes),
            "rank": eraser.left.shape[1],
            "few_rows": moments.rows < ENOUGH_ROWS * width,
        }
        return facts, {"mean": eraser.mean, "left": eraser.left, "right": eraser.right}

    _paired: ClassVar[bool] = False

    def _edit(self, facts: Mapping[str, Any], parts: Mapping[str, Tensor]) -> Edit:
        def act(hidden: Tensor, keep: Tensor) -> Tensor:
            return operations.project(
                hidden, parts["left"], parts["right"], parts["mean"], strength=self.strength
            )

        return act


@dataclass
class ScriptScrub(Leace):
    """Erases the script of the forget language: LEACE between written forms of the same sentences."""

    kind: ClassVar[str] = "script_scrub"
    tensor_file: ClassVar[str] = "script_scrub.safetensors"
    _paired: ClassVar[bool] = True

    def _classes(self, data: FitData) -> dict[str, Sequence[str]]:
        if len(data.forget_languages) < 2:
            raise InputError(
                "arm of kind 'script_scrub': the forget language is given in one script only "
                f"({', '.join(data.forget_languages)}). Add a romanised corpus under data.corpora."
            )
        return {language: [language] for language in data.forget_languages}
