"""How well a conditional arm decides when to act: its gate on forget and on harmless prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mmie.metrics.membership import membership_auc


@dataclass(frozen=True)
class GateQuality:
    """auroc: forget prompts above harmless ones, [0, 1]. true_positive: share of forget prompts on which
    the gate opens. false_positive: the same of harmless prompts, by language (target 0.05).
    opening: share of all prompts; 0 for an arm that does nothing."""

    auroc: float
    true_positive: float
    false_positive: Mapping[str, float]
    opening: float


def gate_quality(forget: ArrayLike, harmless: Mapping[str, ArrayLike], threshold: float) -> GateQuality:
    """Quality of a gate that opens at `threshold` and above.

    Args:
        forget: gate values on forget prompts.
        harmless: gate values on kept prompts, by language; a mean over languages would hide the one
            in which the gate is always open.
        threshold: the deployed one.
    """
    of_forget = np.asarray(forget, dtype=float)
    of_harmless = {language: np.asarray(values, dtype=float) for language, values in harmless.items()}
    every = np.concatenate([of_forget, *of_harmless.values()])
    return GateQuality(
        membership_auc(of_forget, np.concatenate([*of_harmless.values(), np.zeros(0)])),
        _opened(of_forget, threshold),
        {language: _opened(values, threshold) for language, values in of_harmless.items()},
        _opened(every, threshold),
    )


def _opened(values: np.ndarray, threshold: float) -> float:
    return float((values >= threshold).mean()) if len(values) else math.nan
