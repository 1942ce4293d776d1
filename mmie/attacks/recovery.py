"""Area under a curve of recovery, for results and for tests of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mmie.errors import InputError


def recovery_area(steps: Sequence[int], scores: Sequence[float], base: float) -> float:
    """Share of what was forgotten that relearning returns, averaged over log2(1 + steps).

    r_s = (F_s - F_0) / (base - F_0), F_s the score after s steps; the area of r over log2(1 + s) by
    the trapezoid rule, divided by log2(1 + last step). 0: nothing came back; 1: all of it, at once.
    Not bounded: relearning may lower a score or lift it above the base. Down is better, and only beside
    the same number of the oracle, which learns the facts for the first time.

    Args:
        steps: rising, from 0.
        scores: mean score of the arm after each step.
        base: score of the unattacked base.

    Returns:
        NaN where the base is not above the arm: nothing was forgotten that could come back.

    Raises:
        InputError: steps do not rise from 0, or do not match the scores.
    """
    if len(steps) != len(scores) or len(steps) < 2 or steps[0] != 0 or list(steps) != sorted(set(steps)):
        raise InputError(f"recovery: steps {list(steps)} must rise from 0, with one score each. Sort them.")
    span = base - scores[0]
    if not span > 0:
        return math.nan
    recovery = (np.asarray(scores, dtype=float) - scores[0]) / span
    position = np.log2(1.0 + np.asarray(steps, dtype=float))
    return float(np.trapezoid(recovery, position) / position[-1])
