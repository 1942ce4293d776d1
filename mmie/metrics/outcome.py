"""The result of one metric: a value, or the reason why there is none. Nothing vanishes.

A score that is not finite makes its mean fail, with counts; it is never averaged around.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["measured", "not_measured", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of one metric.

    `measured` has a value; `not_measured` had nothing to measure; `failed` met values that are not
    finite, or raised. `reason` says which.
    """

    name: str
    value: float
    status: Status
    reason: str = ""


def mean_outcome(name: str, values: Sequence[float]) -> Outcome:
    """Mean of per-item values; fails, with counts, if any of them is not finite."""
    if not len(values):
        return Outcome(name, math.nan, "not_measured", "no items")
    wrong = sum(not math.isfinite(value) for value in values)
    if wrong:
        return Outcome(name, math.nan, "failed", f"{wrong} of {len(values)} values are not finite")
    return Outcome(name, sum(values) / len(values), "measured")


def attempt(
    name: str, metric: Callable[..., Any], *arguments: Any, allowed: Collection[str] = ()
) -> Any | Outcome:
    """Compute a metric; if it raises, fail the run, or report the failure if that was allowed.

    Args:
        name: of the metric.
        metric: called with `arguments`.
        allowed: metrics whose failure the user accepts.

    Returns:
        What the metric returned, or an `Outcome` with status `failed` and the error as its reason.

    Raises:
        RuntimeError: the metric raised and is not in `allowed`; the cause is chained.
    """
    try:
        return metric(*arguments)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        if name not in allowed:
            raise RuntimeError(f"metric {name!r} failed: {reason}") from error
        return Outcome(name, math.nan, "failed", reason)
