"""Effect sizes, printed beside every p-value."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def sample_sd(values: ArrayLike) -> float:
    """Standard deviation with n - 1 in the denominator; NaN for fewer than two values."""
    array = np.asarray(values, dtype=np.float64)
    return float(np.std(array, ddof=1)) if array.size >= 2 else math.nan


def paired_dz(cluster_differences: NDArray[np.float64]) -> float:
    """Standardised paired difference over clusters, with Hedges' small-sample factor.

    d_z = mean / sd, times 1 - 3 / (4 (m - 1) - 1) from 3 clusters on. NaN, never infinite, when
    all clusters differ by the same amount.

    Args:
        cluster_differences: mean paired difference of each cluster, [clusters].
    """
    m = len(cluster_differences)
    sd = sample_sd(cluster_differences)
    centre = float(np.mean(cluster_differences)) if m else math.nan
    if not sd > 1e-12 * max(abs(centre), float(np.abs(cluster_differences).max(initial=0.0))):
        return math.nan
    return centre / sd * (1.0 - 3.0 / (4.0 * (m - 1) - 1.0) if m >= 3 else 1.0)


def matched_odds_ratio(gained: int, lost: int) -> float:
    """Odds ratio of discordant pairs, with 0.5 added to both when one is 0."""
    correction = 0.5 if 0 in (gained, lost) else 0.0
    return (gained + correction) / (lost + correction)


def cliffs_delta(first: ArrayLike, second: ArrayLike) -> float:
    """Share of pairs with first > second minus share with first < second, in [-1, 1]."""
    left, right = np.asarray(first, float), np.asarray(second, float)
    if left.size == 0 or right.size == 0:
        return math.nan
    return float(np.sign(left[:, None] - right[None, :]).mean())
