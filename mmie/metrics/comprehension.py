"""Comprehension: does a model still understand a language, whatever it answers in?

Pure scoring functions for prompts that ask for a translation or for yes or no. The Atlas corpus has no
such prompts, and a model as small as the shipped one cannot follow an instruction: these are for the
user's own prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mmie.errors import InputError
from mmie.metrics.answer_state import DEFAULTS, is_correct
from mmie.metrics.text import comparable

YES = ("yes", "हाँ", "हां", "जी", "haan", "han", "ہاں", "جی", "ਹਾਂ", "ਜੀ", "হ্যাঁ", "হাঁ")
NO = ("no", "नहीं", "ना", "nahin", "nahi", "نہیں", "ਨਹੀਂ", "না")


def translation_correct(text: str, answers: Sequence[str]) -> float:
    """1 if `text` gives one of the parallel fact's answers in the target language, else 0.

    Whole words, or chrF++ at the limit of the answer states. That the output is in the target language
    is not enough: another country's currency in perfect English scores 0. NaN without answers.

    Args:
        text: what the model gave as translation.
        answers: the same fact's accepted answers in the target language.
    """
    if not answers:
        return math.nan
    return float(is_correct(text, answers, limit=DEFAULTS.chrf_correct))


def yes_or_no(text: str, *, yes: Sequence[str] = YES, no: Sequence[str] = NO) -> bool | None:
    """What the first word says: True for yes, False for no, None for anything else.

    The first word as a whole: "I know" and "nothing" are no "no".
    """
    words = comparable(text).split()
    if not words:
        return None
    if words[0] in map(comparable, yes):
        return True
    return False if words[0] in map(comparable, no) else None


def yes_no_accuracy(answers: Sequence[bool | None], truths: Sequence[bool]) -> float:
    """Share of right answers to yes-no questions, range [0, 1]; chance and constant answers 0.5.

    An answer that is neither yes nor no is wrong. Direction: down if the language is to be forgotten,
    else hold.

    Raises:
        InputError: positives and negatives are not equally many, or another number of answers; a model
            that always says yes would score above chance.
    """
    positives = sum(truths)
    if len(answers) != len(truths) or not truths or 2 * positives != len(truths):
        raise InputError(
            f"comprehension: {len(answers)} answers to {positives} yes and {len(truths) - positives} no "
            "questions. Ask as many questions whose answer is no as ones whose answer is yes."
        )
    right = sum(answer is truth for answer, truth in zip(answers, truths, strict=True))
    return right / len(truths)
