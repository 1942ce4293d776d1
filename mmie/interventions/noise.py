"""Weights noised until the model babbles: perfect forgetting that every utility gate must stop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmie.errors import InputError
from mmie.interventions.interface import FitData, Fitted, Intervention
from mmie.interventions.weights import exchanged
from mmie.io import seed_from


@dataclass
class WeightNoise(Intervention):
    """Gaussian noise of `scale` standard deviations of each weight matrix, drawn from the seed."""

    kind: ClassVar[str] = "noise"

    scale: float = 1.0
    """Standard deviation of the noise over that of the matrix; 0 is the identity."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale < 0:
            raise InputError(f"arm of kind 'noise': scale {self.scale} is negative. Use 0 or more.")

    @property
    def seeded(self) -> bool:
        return True

    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        return Fitted()

    @contextmanager
    def _attach(self, model: nn.Module) -> Iterator[nn.Module]:
        seed = self._require_fit().facts["seed"]
        noisy = {
            name: self._noised(name, parameter.detach(), seed)
            for name, parameter in model.named_parameters()
            # Vectors (norm scales, biases) may be constant: they have no spread to be noised by.
            if parameter.ndim >= 2
        }
        with exchanged(model, noisy):
            yield model

    def _noised(self, name: str, weight: Tensor, seed: int) -> Tensor:
        # Drawn on the CPU, so that every device gets the same noise.
        generator = torch.Generator().manual_seed(seed_from("noise", seed, name))
        noise = torch.randn(weight.shape, generator=generator).to(weight.device)
        exact = weight.float()
        return (exact + self.scale * exact.std() * noise).to(weight.dtype)
