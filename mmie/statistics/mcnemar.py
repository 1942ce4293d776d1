"""McNemar's exact test, for binary items without clusters."""

from __future__ import annotations

from scipy.stats import binom


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p from the two discordant counts; 1 when there are none.

    It ignores clusters: with clustered items it is printed beside the sign-flip test and never
    decides. Source: McNemar 1947.
    """
    n = gained + lost
    if n == 0:
        return 1.0
    return min(1.0, 2.0 * float(binom.cdf(min(gained, lost), n, 0.5)))
