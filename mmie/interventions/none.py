"""The base model, untouched: every effect is 0 and its verdict is STOP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mmie.interventions.interface import FitData, Fitted, Intervention


@dataclass
class NoIntervention(Intervention):
    """Does nothing."""

    kind: ClassVar[str] = "none"

    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        return Fitted()

    @contextmanager
    def _attach(self, model: nn.Module) -> Iterator[nn.Module]:
        yield model
