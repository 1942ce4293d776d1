"""Confidence intervals: BCa from resamples, and Student's t for the few places that print it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import t as student_t

from mmie.errors import InputError
from mmie.statistics.bootstrap import Floats, Resampled
from mmie.statistics.effects import sample_sd

LEAST_RESAMPLES = 1000
LEAST_FINITE_SHARE = 0.95
_TIE = 1e-12  # relative distance below which a resample equals the estimate


@dataclass(frozen=True)
class Intervals:
    """Intervals of several statistics, one column each.

    Attributes:
        low: lower ends, [columns]; NaN where there is no interval.
        high: upper ends, [columns].
        method: "bca", "bias_corrected", "percentile", "degenerate" or "none", per column.
        reason: why the method is not plain BCa; empty for "bca".
    """

    low: Floats
    high: Floats
    method: list[str]
    reason: list[str]


@dataclass(frozen=True)
class Interval:
    """One interval; the fields of `Intervals` for a single statistic."""

    low: float
    high: float
    method: str
    reason: str

    def contains(self, value: float) -> bool:
        """Whether a value lies inside; False without an interval."""
        return bool(self.low <= value <= self.high)


def check_alpha(alpha: float) -> None:
    """Refuse an error level outside the open interval (0, 1)."""
    if not 0.0 < alpha < 1.0:
        raise InputError(f"statistics.alpha: {alpha} is not between 0 and 1. Use 0.05, say.")


def bca_intervals(statistic: Resampled, alpha: float) -> Intervals:
    """Bias-corrected and accelerated intervals at level 1 - alpha, for all columns at once.

    The acceleration comes from leaving out one cluster at a time. Where BCa is undefined the
    method in the result says what was used instead; no column ever changes method silently.

    Raises:
        InputError: alpha outside (0, 1).

    Source: Efron 1987.
    """
    check_alpha(alpha)
    columns = len(statistic.point)
    low, high = np.full(columns, np.nan), np.full(columns, np.nan)
    method, reason = ["none"] * columns, [""] * columns
    finite = np.isfinite(statistic.draws)
    # One contiguous row a statistic, undefined resamples last: sorting is most of the work.
    ordered = np.array(statistic.draws.T, order="C")
    ordered[~finite.T] = np.nan
    ordered.sort(axis=1)
    for column in range(columns):
        point = float(statistic.point[column])
        usable = int(finite[:, column].sum())
        reason[column] = _refusal(statistic, column, usable)
        if reason[column]:
            continue
        draws = ordered[column, :usable]
        scale = max(abs(point), abs(draws[0]), abs(draws[-1]))
        if draws[-1] - draws[0] <= _TIE * scale:
            low[column] = high[column] = point
            method[column], reason[column] = "degenerate", "all resamples are equal"
            continue
        shares, method[column], reason[column] = _levels(
            draws, point, statistic.jackknife[:, column], alpha, _TIE * scale
        )
        low[column], high[column] = _quantiles(draws, shares)
    return Intervals(low, high, method, reason)


def bca_interval(statistic: Resampled, alpha: float) -> Interval:
    """`bca_intervals` for a statistic of one column."""
    several = bca_intervals(statistic, alpha)
    return Interval(float(several.low[0]), float(several.high[0]), several.method[0], several.reason[0])


def least_alpha_inside(statistic: Resampled, margin: float) -> float:
    """Smallest alpha whose BCa interval at level 1 - 2 alpha lies inside (-margin, margin).

    It serves as the p-value of an equivalence test for scores without a shifted permutation, such
    as an AUC, and is the larger of two one-sided ones. No resample beyond the margin counts as one
    in B + 1, so p is never 0. Where BCa is undefined it rests on percentiles, as the interval does.

    Args:
        statistic: one column.
        margin: above 0.

    Returns:
        p in (0, 1]; 1 when the estimate is not inside; NaN where there is no interval.

    Source: inversion of the interval of Efron 1987.
    """
    finite = np.isfinite(statistic.draws[:, 0])
    draws = np.sort(statistic.draws[finite, 0])
    if _refusal(statistic, 0, len(draws)):
        return float("nan")
    point = float(statistic.point[0])
    if not -margin < point < margin:
        return 1.0
    bias, skew = _correction(draws, point, statistic.jackknife[:, 0])
    below = (np.searchsorted(draws, -margin, side="right") + 1) / (len(draws) + 1)
    above = (len(draws) - np.searchsorted(draws, margin, side="left") + 1) / (len(draws) + 1)
    sides = []
    for share, sign in ((below, 1.0), (1.0 - above, -1.0)):
        # The interval's formula solved for the level whose end is the margin.
        distance = ndtri(np.clip(share, 1e-12, 1.0 - 1e-12)) - bias
        scale = 1.0 + skew * distance
        sides.append(float(ndtr(sign * (distance / scale - bias))) if scale > 0.0 else 1.0)
    return max(*sides, 1.0 / (len(draws) + 1))


def _correction(draws: Floats, point: float, jackknife: Floats) -> tuple[float, float]:
    """Bias and acceleration of BCa; (0, 0), which gives percentiles, where they are not defined."""
    tie = _TIE * max(abs(point), abs(draws[0]), abs(draws[-1]))
    below = np.searchsorted(draws, point - tie, side="left")
    share = (below + np.searchsorted(draws, point + tie, side="right")) / (2.0 * len(draws))
    if draws[-1] - draws[0] <= tie or not 0.0 < share < 1.0:
        return 0.0, 0.0
    leave_one_out = jackknife[np.isfinite(jackknife)]
    skew = acceleration(leave_one_out) if len(leave_one_out) >= 2 else 0.0
    return float(ndtri(share)), skew


def acceleration(jackknife: Floats) -> float:
    """Efron's acceleration from leave-one-out values, [clusters]; 0 when they are all equal."""
    scale = np.abs(jackknife).max()
    if scale == 0:
        return 0.0
    # It has no unit; in their own one the cubes of tiny values would be 0.
    distance = (jackknife.mean() - jackknife) / scale
    squares = float((distance**2).sum())
    if squares <= _TIE**2 * len(jackknife):
        return 0.0
    return float((distance**3).sum() / (6.0 * squares**1.5))


def t_interval(values: Floats, alpha: float) -> tuple[float, float]:
    """Student's t interval of a mean of few values, such as per-seed means.

    Three seeds take the quantile 4.303 at 95 %, not 1.96. NaN with fewer than two values.
    """
    check_alpha(alpha)
    if len(values) < 2:
        return float("nan"), float("nan")
    half = student_t.ppf(1.0 - alpha / 2.0, len(values) - 1) * sample_sd(values)
    half /= np.sqrt(len(values))
    centre = float(np.mean(values))
    return centre - float(half), centre + float(half)


def _refusal(statistic: Resampled, column: int, usable: int) -> str:
    """Why there can be no interval at all; empty when there can."""
    resamples = statistic.draws.shape[0]
    if not np.isfinite(statistic.point[column]):
        return "the estimate is not defined"
    if statistic.jackknife.shape[0] < 2:
        return "fewer than 2 clusters"
    if resamples < LEAST_RESAMPLES:
        return f"{resamples} resamples, {LEAST_RESAMPLES} needed"
    if usable < LEAST_FINITE_SHARE * resamples:
        return f"only {usable} of {resamples} resamples are defined"
    return ""


def _levels(
    draws: Floats, point: float, jackknife: Floats, alpha: float, tie: float
) -> tuple[NDArray[np.float64], str, str]:
    """Which quantiles of the sorted draws bound the interval, and what the method is called."""
    ends = np.array([alpha / 2.0, 1.0 - alpha / 2.0])
    # Half of the ties count as below; ties are judged with a tolerance for rounding.
    below = np.searchsorted(draws, point - tie, side="left")
    not_above = np.searchsorted(draws, point + tie, side="right")
    share = (below + not_above) / (2.0 * len(draws))
    if share <= 0.0 or share >= 1.0:
        return ends, "percentile", "the estimate lies outside all resamples"
    leave_one_out = jackknife[np.isfinite(jackknife)]
    skew = acceleration(leave_one_out) if len(leave_one_out) >= 2 else 0.0
    bias = ndtri(share)
    shifted = bias + ndtri(ends)
    denominator = 1.0 - skew * shifted
    if (denominator <= 0.0).any():
        return ends, "percentile", "the acceleration is too large for this level"
    levels = ndtr(bias + shifted / denominator)
    if skew == 0.0:
        return levels, "bias_corrected", "no acceleration: leave-one-out values are equal"
    return levels, "bca", ""


def _quantiles(draws: Floats, shares: Floats) -> tuple[float, float]:
    """Quantiles of sorted draws, interpolated and clipped to the array."""
    position = np.clip(shares * (len(draws) - 1), 0, len(draws) - 1)
    floor = np.floor(position).astype(np.intp)
    ceiling = np.minimum(floor + 1, len(draws) - 1)
    values = draws[floor] + (draws[ceiling] - draws[floor]) * (position - floor)
    return float(values.min()), float(values.max())
