"""What a design can find, and when it is too small to be tried."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from mmie.statistics.effects import sample_sd
from mmie.statistics.permutation import least_p

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Power:
    """The power statement of one cell.

    Attributes:
        n_clusters: clusters m.
        items_per_cluster: mean number of items n in a cluster.
        correlation: intra-cluster correlation rho of the differences.
        effective_items: m n / (1 + (n - 1) rho).
        detectable: smallest effect found in 80 % of experiments, in standard deviations of items.
        least_p: smallest two-sided p that the sign-flip test can give.
        declared: tests in the primary family.
        refused: True when least_p > alpha / declared, so that nothing could be significant.
    """

    n_clusters: int
    items_per_cluster: float
    correlation: float
    effective_items: float
    detectable: float
    least_p: float
    declared: int
    refused: bool


def power_statement(
    n_clusters: int,
    items_per_cluster: float,
    *,
    declared: int,
    correlation: float = 0.3,
    alpha: float = 0.05,
    power: float = 0.8,
) -> Power:
    """State what m clusters of n items can find; about 2.80 sd / sqrt(effective items).

    Args:
        n_clusters: clusters of the cell.
        items_per_cluster: mean number of items in a cluster.
        declared: tests of the primary family before any is run.
        correlation: assumed or estimated correlation of differences within clusters.
        alpha: two-sided level.
        power: probability of finding the effect.
    """
    design = 1.0 + (items_per_cluster - 1.0) * max(0.0, correlation)
    effective = n_clusters * items_per_cluster / design
    quantiles = float(ndtri(1.0 - alpha / 2.0) + ndtri(power))
    smallest = least_p(n_clusters)
    return Power(
        n_clusters=n_clusters,
        items_per_cluster=items_per_cluster,
        correlation=correlation,
        effective_items=effective,
        detectable=quantiles / math.sqrt(effective) if effective > 0 else math.nan,
        least_p=smallest,
        declared=declared,
        refused=smallest > alpha / max(1, declared),
    )


def detectable_difference(cluster_differences: Floats, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest mean difference that `power` of such experiments find, in the score's unit.

    About 2.80 sd / sqrt(m), sd over the m clusters of this experiment; NaN below two clusters.
    """
    quantiles = float(ndtri(1.0 - alpha / 2.0) + ndtri(power))
    return quantiles * sample_sd(cluster_differences) / math.sqrt(max(1, len(cluster_differences)))


def intra_cluster_correlation(differences: Floats, clusters: NDArray[np.intp]) -> float:
    """One-way analysis-of-variance estimate of the correlation of items in a cluster.

    Args:
        differences: one value an item, [items].
        clusters: cluster number of each item, [items].

    Returns:
        rho, at most 1, below 0 when clusters differ less than chance; NaN without two clusters,
        without a cluster of two items, or when all values are equal.
    """
    _, codes = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(codes).astype(np.float64)
    m, n = len(sizes), len(differences)
    if m < 2 or n <= m:
        return math.nan
    means = np.bincount(codes, differences) / sizes
    between = float((sizes * (means - differences.mean()) ** 2).sum()) / (m - 1)
    within = float(((differences - means[codes]) ** 2).sum()) / (n - m)
    common = (n - float((sizes**2).sum()) / n) / (m - 1)
    total = between + (common - 1.0) * within
    return (between - within) / total if total > 0 else math.nan
