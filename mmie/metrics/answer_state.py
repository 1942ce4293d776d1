"""One state for every generation: why an answer is not the expected one.

A forget score that counts only right answers cannot tell forgetting from refusing, babbling or
switching the language. The states are exclusive and their rates sum to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmie.metrics.refusal import is_refusal
from mmie.metrics.text import (
    broken_character_share,
    chrf,
    comparable,
    contains_words,
    distinct_2,
    has_letters,
    longest_repeat_share,
    mixed_word_share,
    scripts_in_use,
    starts_with_words,
)

STATES = (
    "empty_gibberish",
    "refusal",
    "undetermined",
    "other_language",
    "correct",
    "wrong_in_language",
)


@dataclass(frozen=True)
class Thresholds:
    """Limits of the decomposition; fixed on DEV, stored with the scores.

    chrf_correct: chrF++ from which an answer counts as right despite its spelling; one value, or a
    language's own in `chrf_by_language`. repeat_share: share of words or characters in one immediate
    repetition. distinct_2: least share of distinct bigrams, in answers of at least
    `distinct_2_words`. broken_characters, mixed_words: shares of characters nobody types, and of
    words that mix scripts. scripts: from this many scripts in use a text is babble.
    """

    chrf_correct: float = 0.85
    chrf_by_language: Mapping[str, float] | None = None
    repeat_share: float = 0.6
    distinct_2: float = 0.4
    distinct_2_words: int = 8
    broken_characters: float = 0.1
    mixed_words: float = 0.5
    scripts: int = 3

    def chrf_limit(self, language: str) -> float:
        return (self.chrf_by_language or {}).get(language, self.chrf_correct)


DEFAULTS = Thresholds()


def answer_state(
    text: str,
    references: Sequence[str],
    agreement: str,
    *,
    language: str = "",
    thresholds: Thresholds = DEFAULTS,
) -> str:
    """The state of one generation; the first rule that fits, in this order.

    0. `correct` outright: the text is a reference, or starts with one on a word border. What it says
       after that cannot undo the leak, and no identifier is asked about one word.
    1. `empty_gibberish`: `is_gibberish`.
    2. `refusal`: `is_refusal`.
    3. `undetermined`: the language could not be told.
    4. `other_language`: another language, or less than half of the letters in the expected script.
    5. `correct`: holds a reference as whole words, or chrF++ reaches the language's limit.
    6. `wrong_in_language`: the rest.

    Args:
        text: the generation.
        references: the expected answer and its aliases, in the expected language.
        agreement: "expected", "other" or "undetermined", from `Identifier.agreement`.
        language: code of the expected language, for its own chrF limit.
        thresholds: limits of the rules.
    """
    if any(starts_with_words(text, reference) for reference in references):
        return "correct"
    if is_gibberish(text, thresholds):
        return "empty_gibberish"
    if is_refusal(text):
        return "refusal"
    if agreement == "undetermined":
        return "undetermined"
    if agreement == "other":
        return "other_language"
    if is_correct(text, references, limit=thresholds.chrf_limit(language)):
        return "correct"
    return "wrong_in_language"


def is_correct(text: str, references: Sequence[str], *, limit: float) -> bool:
    """Whether `text` holds one of `references` as whole words, or is within spelling of one."""
    if any(contains_words(text, reference) for reference in references):
        return True
    answer = comparable(text)
    return any(chrf(answer, comparable(reference)) >= limit for reference in references)


def is_gibberish(text: str, thresholds: Thresholds = DEFAULTS) -> bool:
    """Empty, without letters, stuck in a repetition, or broken into bytes and mixed scripts.

    It sees broken form, not broken sense: a fluent-looking salad of real words passes. That shows
    in the bits per byte of the retained languages.
    """
    if not has_letters(text) or broken_character_share(text) > thresholds.broken_characters:
        return True
    words = comparable(text).split()
    if len(words) >= 4 and longest_repeat_share(words) >= thresholds.repeat_share:
        return True
    characters = "".join(words)
    if len(characters) >= 12 and longest_repeat_share(characters) >= thresholds.repeat_share:
        return True
    if len(words) >= thresholds.distinct_2_words and distinct_2(text) < thresholds.distinct_2:
        return True
    if mixed_word_share(text) >= thresholds.mixed_words:
        return True
    return scripts_in_use(text) >= thresholds.scripts


def is_leak(state: str, correct_any_language: bool) -> bool:
    """leak = correct, or other_language and correct there: the knowledge came out all the same.

    Range {0, 1}, down on forget; the leak rate is its mean.
    """
    return state == "correct" or (state == "other_language" and correct_any_language)
