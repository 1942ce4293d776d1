"""Tests that something was preserved. A non-significant difference is never such evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from mmie.errors import InputError
from mmie.statistics.permutation import LEAST_FLIPS, Floats, sign_flip

Harm = Literal["down", "up"]


def non_inferiority(
    cluster_differences: Floats,
    margin: float,
    harm: Harm,
    *,
    names: Sequence[object],
    n_flips: int = LEAST_FLIPS,
) -> float:
    """P-value for harm beyond the margin: the one-sided sign-flip test of shifted differences.

    It assumes that differences scatter symmetrically about the margin.

    Args:
        cluster_differences: mean of arm - base of each cluster, [clusters].
        margin: tolerated harm, above 0, in the score's unit.
        harm: "down" when a lower score is worse (accuracy), "up" when a higher one is (bits).
        names: seeds of the random flips.
        n_flips: random flips beyond 20 clusters.

    Raises:
        InputError: margin not above 0.
    """
    if not margin > 0:
        raise InputError(f"gates: the margin {margin} is not above 0. Give the tolerated harm.")
    room = cluster_differences + margin if harm == "down" else margin - cluster_differences
    if len(room) and np.isfinite(room).all() and not room.any():
        return 1.0  # exactly on the margin: no evidence of staying inside
    return sign_flip(room, names=names, side="greater", n_flips=n_flips)


def tost(
    cluster_differences: Floats,
    margin: float,
    *,
    names: Sequence[object],
    n_flips: int = LEAST_FLIPS,
) -> float:
    """Two one-sided tests: the larger p of "not below -margin" and "not above +margin".

    Equivalence also needs the 1 - 2 alpha interval inside the margin. Source: Schuirmann 1987.
    """
    return max(
        non_inferiority(cluster_differences, margin, harm, names=names, n_flips=n_flips)
        for harm in ("down", "up")
    )


def inside_margin(low: float, high: float, margin: float, harm: Harm | None) -> bool:
    """Whether an interval lies inside the margin; only on the harmful side if one is named."""
    above, below = low > -margin, high < margin
    return {"down": above, "up": below, None: above and below}[harm]
