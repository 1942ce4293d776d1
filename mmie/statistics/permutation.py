"""Paired sign-flip permutation tests over clusters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmie.io import seed_from

Floats = NDArray[np.float64]
Side = Literal["two_sided", "greater"]
EXACT_UP_TO = 20
LEAST_FLIPS = 9999
_TIE = 1e-12


def sign_flip(
    cluster_values: Floats,
    *,
    names: Sequence[object],
    side: Side = "two_sided",
    n_flips: int = LEAST_FLIPS,
) -> float:
    """P-value for a mean of paired cluster differences being zero.

    Under the null the sign of every cluster is exchangeable. Up to 20 clusters all 2^m
    assignments are counted; beyond, at least 9,999 random ones, the observed one included.

    Args:
        cluster_values: mean paired difference of each cluster, [clusters].
        names: what the random flips are seeded from; equal names give equal flips.
        side: "two_sided", or "greater" for a mean above zero.
        n_flips: random flips, raised to 9,999 if lower.

    Returns:
        p in (0, 1]; 1 when all differences are zero; NaN without clusters or with a NaN.
    """
    m = len(cluster_values)
    if m == 0 or not np.isfinite(cluster_values).all():
        return math.nan
    return float(
        _share(cluster_values, np.array([cluster_values.sum()]), names=names, side=side, n_flips=n_flips)[0]
    )


def p_values_of_sums(cluster_values: Floats, sums: Floats) -> Floats:
    """Two-sided p-values of several sums against one null distribution, [sums].

    The null is that of `cluster_values`, [clusters]; the sums are those of other sign assignments,
    as when the labels of an arm and the base were swapped within clusters.
    """
    return _share(cluster_values, sums, names=("permuted labels",), side="two_sided", n_flips=LEAST_FLIPS)


def _share(
    cluster_values: Floats, observed: Floats, *, names: Sequence[object], side: Side, n_flips: int
) -> Floats:
    """Share of sign assignments whose sum is at least as extreme as each observed one."""
    m = len(cluster_values)
    size = float(np.abs(cluster_values).sum())
    if size == 0.0:
        return np.ones(len(observed))
    flipped = (
        _all_sums(cluster_values)
        if m <= EXACT_UP_TO
        else _signs(m, max(n_flips, LEAST_FLIPS), seed_from("sign flip", *names)) @ cluster_values
    )
    if side == "two_sided":
        flipped, observed = np.abs(flipped), np.abs(observed)
    # Relative to what was added up, so that rounding never splits equal assignments.
    least = observed - _TIE * size
    extreme = len(flipped) - np.searchsorted(np.sort(flipped), least, side="left")
    return extreme / len(flipped) if m <= EXACT_UP_TO else (1 + extreme) / (1 + len(flipped))


def least_p(m: int, side: Side = "two_sided") -> float:
    """Smallest p that the exact test can give with m clusters: 2 / 2^m, one-sided 1 / 2^m."""
    return min(1.0, (2.0 if side == "two_sided" else 1.0) / 2.0**m)


def flips_for(declared: int, alpha: float = 0.05) -> int:
    """Random flips so that the smallest p stays below alpha / declared tests."""
    return max(LEAST_FLIPS, math.floor(declared / alpha) + 1)


def _all_sums(values: Floats) -> Floats:
    """Sums over all 2^m sign assignments, by doubling."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


@lru_cache(maxsize=8)
def _signs(m: int, n_flips: int, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, size=(n_flips, m)).astype(np.float64) * 2.0 - 1.0
