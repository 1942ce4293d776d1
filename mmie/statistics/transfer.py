"""How far an arm went from what the base knows (0) to what the oracle knows (1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from mmie.statistics.bootstrap import Resampled, combine
from mmie.statistics.intervals import Interval, bca_interval

SMALLEST_DENOMINATOR = 0.05
"""Five points, in the unit of a rate: the ratio to a smaller span says nothing about either side of it."""
_NONE = Interval(math.nan, math.nan, "none", "the estimate is not defined")


@dataclass(frozen=True)
class Ratio:
    """A ratio of means over the same items, resampled together.

    Attributes:
        estimate: the ratio; NaN when not measured.
        interval: its BCa interval.
        reason: why it is not measured; empty otherwise.
    """

    estimate: float
    interval: Interval
    reason: str


def transfer(
    arm: Resampled,
    base: Resampled,
    oracle: Resampled | None,
    *,
    alpha: float,
    smallest: float = SMALLEST_DENOMINATOR,
) -> Ratio:
    """T = 1 - (S_arm - S_oracle) / (S_base - S_oracle), for one score of one cell.

    0 for the base, 1 for the oracle, above 1 over-forgetting, below 0 reinforcement. Without an
    oracle the oracle's score is taken as 0, so that T = 1 - S_arm / S_base. Not measured
    ("nothing to forget") when the interval of the denominator reaches 0, or the denominator is
    smaller than `smallest`: a base of 0 and one of 1e-9 are treated alike.

    Args:
        arm, base, oracle: one-column means over the same items and draws.
        alpha: the intervals are at level 1 - alpha.
        smallest: declared least denominator, in the score's unit.
    """
    span = base if oracle is None else base - oracle
    gap = arm if oracle is None else arm - oracle
    what = "the base" if oracle is None else "the base minus the oracle"
    return _guarded(
        lambda: combine(lambda left, right: 1.0 - left / right, gap, span),
        span, what, "nothing to forget", alpha, smallest,
    )  # fmt: skip


def relative(
    arm: Resampled, base: Resampled, *, alpha: float, smallest: float = SMALLEST_DENOMINATOR
) -> Ratio:
    """S_arm / S_base, 1 for the base; not measured when the base scores (nearly) nothing."""
    return _guarded(
        lambda: combine(lambda left, right: left / right, arm, base),
        base, "the base", "no base score to compare with", alpha, smallest,
    )  # fmt: skip


def recovery(
    attacked: Resampled,
    arm: Resampled,
    base: Resampled,
    *,
    alpha: float,
    smallest: float = SMALLEST_DENOMINATOR,
) -> Ratio:
    """(S_attacked - S_arm) / (S_base - S_arm): share of what was forgotten that an attack returns.

    Not measured when the arm forgot nothing. Read it only beside the attacked base and oracle:
    without them relearning cannot be told from first learning.
    """
    span = base - arm
    return _guarded(
        lambda: combine(lambda left, right: left / right, attacked - arm, span),
        span, "the base minus the arm", "nothing to recover", alpha, smallest,
    )  # fmt: skip


def _guarded(
    ratio: Callable[[], Resampled],
    denominator: Resampled,
    what: str,
    empty: str,
    alpha: float,
    smallest: float,
) -> Ratio:
    span = bca_interval(denominator, alpha)
    size = float(denominator.point[0])
    if math.isnan(size):
        return Ratio(math.nan, _NONE, "no scores")
    if math.isnan(span.low):
        return Ratio(math.nan, _NONE, f"no interval for {what}: {span.reason}")
    if span.low <= 0.0 or size < smallest:
        found = f"{size:.3f} ({span.low:.3f} to {span.high:.3f})"
        return Ratio(math.nan, _NONE, f"{empty}: {what} is {found}")
    result = ratio()
    return Ratio(float(result.point[0]), bca_interval(result, alpha), "")
