"""The direction from retain to forget text: taken out of the stream, limited, or steered against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mmie.activations.moments import label_languages
from mmie.activations.norms import residual_norms
from mmie.errors import InputError
from mmie.interventions import operations
from mmie.interventions.interface import FitData
from mmie.interventions.stream import StreamEdit, components
from mmie.io import seed_from
from mmie.models.hooks import Edit

OPERATIONS = ("ablate", "clamp", "steer")
DIRECTIONS = ("diff_means", "random", "shuffled")
CEILING_QUANTILE = 0.95


@dataclass
class DifferenceInMeans(StreamEdit):
    """v = unit(mean of forget rows - mean of retain rows), one for all forget languages together.

    - `ablate`: h - strength (h.v - m) v, m the mean of h.v on retain rows;
    - `clamp`: h - strength max(0, h.v - tau) v, tau its 95th percentile there;
    - `steer`: h - strength n_l v, n_l the median norm of the stream, so that a strength means the same
      at every layer of every model. A negative one steers towards the forget languages.

    Languages weigh equally in both means. Two controls take another direction: `random` (Gaussian) and
    `shuffled` (the same formula on items whose language labels were permuted).

    Source: Wu et al. 2025 (arXiv 2501.17148); Arditi et al. 2024 (arXiv 2406.11717).
    """

    kind: ClassVar[str] = "diff_means"
    tensor_file: ClassVar[str] = "diff_means.safetensors"

    operation: str = "ablate"
    """ablate, clamp or steer."""
    direction: str = "diff_means"
    """diff_means, or a control: random, shuffled."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.operation not in OPERATIONS or self.direction not in DIRECTIONS:
            raise InputError(
                f"arm of kind 'diff_means': operation {self.operation!r}, direction {self.direction!r}. "
                f"Use one of {', '.join(OPERATIONS)} and one of {', '.join(DIRECTIONS)}."
            )

    @property
    def seeded(self) -> bool:
        return super().seeded or self.direction != "diff_means"

    def _fit_layer(
        self, layer: int, data: FitData, activations: Path, seed: int
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        difference = self._difference(layer, data, activations, seed)
        size = float(difference.norm())
        if size == 0:
            raise InputError(
                f"arm of kind 'diff_means': forget and retain rows have the same mean at layer {layer}."
            )
        direction = functional.normalize(difference, dim=0)
        along = components(activations, layer, data.retain_languages, direction)
        facts = {
            "difference": size,
            "mean": float(along.mean()),
            "ceiling": float(np.quantile(along.numpy(), CEILING_QUANTILE)),
            "residual_norm": residual_norms(activations, data.retain_languages)[layer],
        }
        return facts, {"direction": direction}

    def _difference(self, layer: int, data: FitData, activations: Path, seed: int) -> Tensor:
        """Unnormalised direction [width], float64."""
        languages = [*data.forget_languages, *data.retain_languages]
        rng = np.random.default_rng(seed_from("diff_means", self.direction, seed, layer))
        labelled = label_languages(
            activations,
            layer,
            {language: [language] for language in languages},
            shuffle=rng if self.direction == "shuffled" else None,
        )
        if self.direction == "random":
            return torch.from_numpy(rng.standard_normal(labelled.store.width))
        means = labelled.moments().means
        split = len(data.forget_languages)
        return means[:split].mean(0) - means[split:].mean(0)

    def _edit(self, facts: Mapping[str, Any], parts: Mapping[str, Tensor]) -> Edit:
        direction, strength = parts["direction"], self.strength

        def act(hidden: Tensor, keep: Tensor) -> Tensor:
            if self.operation == "ablate":
                return operations.ablate(hidden, direction, mean=facts["mean"], strength=strength)
            if self.operation == "clamp":
                return operations.clamp(hidden, direction, facts["ceiling"], strength=strength)
            return operations.add(hidden, direction, -strength * facts["residual_norm"])

        return act
