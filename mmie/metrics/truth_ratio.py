"""Truth ratio: are wrong answers as likely as the right one? One name in the literature, several numbers.

R = P_wrong / P_right, both length-normalised probabilities on a paraphrased prompt. The raw R is stored
with each row; what is averaged over rows has a name of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

# How the wrong answers are averaged; stored with the scores.
MEAN: Literal["geometric"] = "geometric"


def truth_ratio(
    right: float, wrong: Sequence[float], *, mean: Literal["geometric", "arithmetic"] = MEAN
) -> float:
    """R = P_wrong / P_right, range (0, inf); success on forget: the oracle's value.

    P_wrong is the mean of the wrong answers' probabilities: geometric as in the released code of TOFU,
    arithmetic as in its paper. NaN without wrong answers or with a right answer of probability 0.

    Args:
        right: length-normalised probability of the right answer, exp(-L/T).
        wrong: the same of each wrong answer.

    Source: Maini et al. 2024 (arXiv 2401.06121).
    """
    if not wrong or not right > 0:
        return math.nan
    if mean == "arithmetic":
        return sum(wrong) / len(wrong) / right
    if min(wrong) == 0:
        return 0.0
    return math.exp(sum(map(math.log, wrong)) / len(wrong)) / right


def closeness(ratio: float) -> float:
    """min(R, 1/R): TOFU's aggregator on forget. Range [0, 1]; success: the oracle's value.

    Falls again where the model prefers the wrong answers, so over-unlearning looks like memory.
    """
    return min(ratio, 1.0 / ratio) if ratio > 0 else ratio


def retained_truth(ratio: float) -> float:
    """max(0, 1 - R): TOFU's aggregator on retained and real sets. Range [0, 1]; hold."""
    return ratio if math.isnan(ratio) else max(0.0, 1.0 - ratio)


def truth_preference(ratio: float) -> float:
    """1 / (1 + R) = P_right / (P_right + P_wrong). Range (0, 1]; down on forget; 0.5: no preference.

    Source: Dorna et al. 2025 (arXiv 2506.12618), as the memorisation score uses it.
    """
    return 1.0 / (1.0 + ratio)


def answer_chosen(right: float, wrong: Sequence[float]) -> float:
    """1 if the right answer is likelier than every wrong one, else 0 (PA); a tie is 0.

    Down on forget; chance 1 / (1 + number of wrong answers). NaN without wrong answers.
    Source: LingTea (arXiv 2406.12354).
    """
    return float(right > max(wrong)) if wrong else math.nan
