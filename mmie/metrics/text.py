"""Comparing and judging text: normalisation, overlap, repetition. Every script counts alike."""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mmie.language.scripts import character_script

# Stored with the scores: two scores are comparable only under the same normalisation.
NORMALISATION = "nfc-zerowidth-1"

_EAST_ASIAN = frozenset({"Hani", "Hira", "Kana", "Hang", "Bopo"})
_ZERO_WIDTH = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))


def normalise(text: str) -> str:
    """NFC, zero-width characters and soft hyphens removed, white space runs made one space."""
    return " ".join(unicodedata.normalize("NFC", text).translate(_ZERO_WIDTH).split())


@functools.lru_cache(maxsize=65536)
def comparable(text: str) -> str:
    """`normalise`, case folded, every punctuation or control character (danda too) made a space.

    Letters, marks, digits and symbols of every script stay: "rupee." and "Rupee" compare equal,
    "रुपया।" and "रुपया" too.
    """
    kept = "".join(
        " " if unicodedata.category(character)[0] in "PZC" else character
        for character in normalise(text).casefold()
    )
    return " ".join(kept.split())


def contains_words(text: str, phrase: str) -> bool:
    """Whether `phrase` stands in `text` as whole words, after `comparable`; False for an empty one.

    "no" is not in "know".
    """
    wanted = comparable(phrase)
    return bool(wanted) and f" {wanted} " in f" {comparable(text)} "


def starts_with_words(text: str, phrase: str) -> bool:
    """Whether `text` is `phrase` or starts with it on a word border, after `comparable`."""
    wanted = comparable(phrase)
    return bool(wanted) and f"{comparable(text)} ".startswith(f"{wanted} ")


def chrf(hypothesis: str, reference: str) -> float:
    """chrF++: F-score of character 1-6-grams and word 1-2-grams, recall weighted by 2.

    sacrebleu's sentence score over 100. Range [0, 1], identical texts 1 in every script, down on
    forget. Zero for an empty hypothesis.

    Source: Popović 2017; sacrebleu, signature from `chrf_signature`.
    """
    if not hypothesis or not reference:
        return 0.0
    return float(_chrf_scorer().sentence_score(hypothesis, [reference]).score) / 100.0


def chrf_signature() -> str:
    """sacrebleu's signature of the scorer, stored with the scores."""
    scorer = _chrf_scorer()
    scorer.sentence_score("a", ["a"])  # the signature is known after a first score only
    return str(scorer.get_signature())


@functools.cache
def _chrf_scorer() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF(word_order=2)


def distinct_2(text: str) -> float:
    """Distinct word bigrams / word bigrams. Range (0, 1]; 1 without repetition or without bigrams.

    Source: Li et al. 2016 (arXiv 1510.03055).
    """
    words = comparable(text).split()
    bigrams = list(itertools.pairwise(words))
    return len(set(bigrams)) / len(bigrams) if bigrams else 1.0


def longest_repeat_share(units: Sequence[str], *, longest_period: int = 4) -> float:
    """Share of `units` (words or characters) in the longest immediate repetition of one pattern.

    A pattern of 1 to `longest_period` units must occur at least three times in a row to count.
    Range [0, 1]; 0 without such a repetition, 1 for "yes yes yes yes".
    """
    best = 0
    for period in range(1, longest_period + 1):
        run = 0
        for index in range(period, len(units)):
            run = run + 1 if units[index] == units[index - period] else 0
            covered = run + period
            if covered >= 3 * period:
                best = max(best, covered)
    return best / len(units) if units else 0.0


def has_letters(text: str) -> bool:
    """Whether any character of `text` is a letter of any script."""
    return any(character.isalpha() for character in text)


def broken_character_share(text: str) -> float:
    """Share of characters that no person types: replacement, control, private or unassigned ones.

    Range [0, 1]; 0 for an empty text. One replacement character at the very end is what a length
    limit leaves of a half-written letter, and is not counted.
    """
    whole = text.strip()
    body = whole.removesuffix("\ufffd")
    broken = sum(
        character == "\ufffd" or unicodedata.category(character) in ("Cc", "Co", "Cn", "Cs")
        for character in body
        if character not in "\n\t\r"
    )
    return broken / len(body) if body else float(bool(whole))


def mixed_word_share(text: str) -> float:
    """Share of words with letters of two scripts inside one word. Range [0, 1]; 0 without words.

    A Cyrillic letter in a Latin word shows here too.
    """
    words = [word for word in comparable(text).split() if has_letters(word)]
    mixed = sum(len(_systems(word)) > 1 for word in words)
    return mixed / len(words) if words else 0.0


def scripts_in_use(text: str, *, share: float = 0.15) -> int:
    """Number of scripts with at least `share` of the letters of `text` each."""
    counts = _systems(text)
    total = sum(counts.values())
    return sum(count >= share * total for count in counts.values())


def _systems(text: str) -> Counter[str]:
    """Letters by script, the scripts of Chinese, Japanese and Korean taken as one: they mix."""
    counts: Counter[str] = Counter()
    for script in map(character_script, text):
        if script is not None:
            counts["Hani" if script in _EAST_ASIAN else script] += 1
    return counts
