"""ROUGE-L for continuity with older work, in a form that counts every script.

The scorer `rouge_score` keeps [a-z0-9] and nothing else: a perfect answer in Hindi scores 0. Its
tokenizer is refused here wherever it would drop a letter. The primary overlap is chrF++
(`mmie.metrics.text.chrf`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from mmie.errors import InputError
from mmie.metrics.text import comparable, has_letters

Units = Literal["characters", "words", "rouge_score"]


def rouge_l(hypothesis: str, reference: str, *, units: Units = "characters") -> float:
    """ROUGE-L recall = LCS(hypothesis, reference) / length of the reference, in `units`.

    Range [0, 1], down on forget; identical texts 1 in every script. 0 for an empty hypothesis, NaN for a
    reference without units.

    Args:
        hypothesis: the generation.
        reference: the expected answer, from the data.
        units: `characters` (`rouge_char`), whitespace `words` (`rouge_words`; one word for an unspaced
            script), or `rouge_score`, that package's default tokenizer.

    Raises:
        InputError: `rouge_score` on a reference with letters that it drops.

    Source: Lin 2004.
    """
    wanted, found = _units(reference, units), _units(hypothesis, units)
    if not wanted:
        return float("nan")
    return longest_common_subsequence(found, wanted) / len(wanted)


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, in O(len(first) * len(second)) time."""
    best = [0] * (len(second) + 1)
    for left in first:
        diagonal = 0
        for place, right in enumerate(second, start=1):
            above = best[place]
            best[place] = diagonal + 1 if left == right else max(above, best[place - 1])
            diagonal = above
    return best[-1]


def _units(text: str, units: Units) -> list[str]:
    clean = comparable(text)
    if units == "characters":
        return [character for character in clean if character != " "]
    if units == "words":
        return clean.split()
    kept = re.findall(r"[a-z0-9]+", clean)
    dropped = "".join(re.split(r"[a-z0-9]+", clean))
    if has_letters(dropped):
        raise InputError(
            f"rouge: the default tokenizer of rouge_score drops letters of {text!r}, so a perfect answer "
            "would not score 1. Use units `characters` or `words`, or chrF++."
        )
    return kept
