"""Language confusion: does a model stay in the language it was asked in, line by line and word by word?

The pass rates LPR, WPR and LCPR are means of the per-response values here. A response without a line
long enough to judge is skipped, never counted as a pass: if all are skipped the rate is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmie.language.identify import EXPECTED, UNDETERMINED, Identifier
from mmie.language.scripts import NO_LETTERS, dominant_script, script_share
from mmie.metrics.aggregates import harmonic_mean
from mmie.metrics.text import comparable, normalise

if TYPE_CHECKING:
    import pandas as pd

Agreement = Callable[[str, str], str]
"""(text, expected language) -> "expected", "other" or "undetermined"."""

LEAST_WORDS = 5
_LEAST_LETTERS = 4
# Written without spaces, where two letters stand for a word.
_UNSPACED = frozenset({"Jpan", "Hani", "Hira", "Kana", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"})


@dataclass(frozen=True)
class Confusion:
    """What one response shows.

    line_pass: 1 if every judged line is in the expected language, 0 if not, NaN without a judged line.
    line_accuracy: share of judged lines in the expected language, NaN without one. word_pass: 1 if
    `line_pass` is 1 and no foreign word stands in the response, 0 with one, NaN if `line_pass` is not 1
    or words cannot be told. abstained: long lines whose language could not be told; they are not judged.
    """

    line_pass: float
    line_accuracy: float
    word_pass: float
    abstained: int


def confusion(
    response: str,
    language: str,
    identifier: Identifier,
    lexicon: Mapping[str, Collection[str]] | None = None,
    *,
    least_words: int = LEAST_WORDS,
) -> Confusion:
    """Line- and word-level confusion of one response.

    Lines of at least `least_words` words are judged (two letters a word in unspaced scripts). The
    identifier has its own confidence floors where the source takes 0.3 of fastText, and a line on which
    it abstains is not judged, where the source lets it fail.

    Args:
        response: the raw generation, with its line breaks.
        language: the expected language.
        identifier: the experiment's language identification.
        lexicon: words by language, for `foreign_words`.
        least_words: shortest line that is judged.

    Source: Marchisio et al. 2024 (arXiv 2406.20052).
    """
    lines = [line for line in map(normalise, response.splitlines()) if _words_in(line) >= least_words]
    verdicts = [identifier.agreement(line, language) for line in lines]
    judged = [verdict == EXPECTED for verdict in verdicts if verdict != UNDETERMINED]
    abstained = len(verdicts) - len(judged)
    if not judged:
        return Confusion(math.nan, math.nan, math.nan, abstained)
    word_pass = math.nan
    if all(judged):
        foreign = foreign_words(response, language, identifier.scripts, lexicon)
        word_pass = math.nan if foreign is None else float(not foreign)
    return Confusion(float(all(judged)), sum(judged) / len(judged), word_pass, abstained)


def foreign_words(
    text: str,
    language: str,
    scripts: Mapping[str, str],
    lexicon: Mapping[str, Collection[str]] | None = None,
) -> list[str] | None:
    """Words of more than three letters that belong to another language; None if that cannot be told.

    In a language of its own script: lower-case words in another script (a capital marks a name). In
    Latin script: words of the `lexicon` of another Latin language that the own one lacks.

    Args:
        text: a response.
        language: the expected language.
        scripts: ISO 15924 script of each language of the experiment.
        lexicon: words, as `comparable` writes them, by language.
    """
    raw = [word for word in normalise(text).split() if sum(map(str.isalpha, word)) >= _LEAST_LETTERS]
    if scripts[language] != "Latn":
        return [
            word
            for word in raw
            if script_share(word, scripts[language]) < 0.5 and not any(map(str.isupper, word))
        ]
    others = [code for code, script in scripts.items() if script == "Latn" and code != language]
    if not lexicon or language not in lexicon or not any(code in lexicon for code in others):
        return None
    foreign = set().union(*(lexicon[code] for code in others if code in lexicon)) - set(lexicon[language])
    latin = {word for part in raw for word in comparable(part).split()}
    return sorted(word for word in latin if len(word) >= _LEAST_LETTERS and word in foreign)


def pass_rate(values: Sequence[float]) -> float:
    """LPR or WPR: mean of the judged responses (not NaN). Range [0, 1], hold; NaN if none is judged."""
    judged = [value for value in values if not math.isnan(value)]
    return sum(judged) / len(judged) if judged else math.nan


def skip_rate(values: Sequence[float]) -> float:
    """Share of responses that were not judged (NaN), printed beside each pass rate; NaN without any."""
    return sum(map(math.isnan, values)) / len(values) if len(values) else math.nan


def language_confusion_pass_rate(line: float, word: float) -> float:
    """LCPR = 2 LPR WPR / (LPR + WPR). Range [0, 1], hold; NaN if either is, 0 if either is 0."""
    return harmonic_mean([line, word])


def language_mix(
    text: str, language: str, agreement: Agreement, *, orders: Sequence[int] = (1, 2, 3)
) -> float:
    """N-Mix, operational form: share of judged word 1- to 3-grams identified as another language.

    Range [0, 1], hold; NaN if no n-gram could be judged. High values make reference-based forget scores
    false. The formula of Hwang et al. 2025 (arXiv 2510.23949) could not be checked.

    Args:
        text: a response.
        language: the expected language.
        agreement: such as `Identifier.agreement`.
    """
    words = normalise(text).split()
    grams = [
        " ".join(words[start : start + order]) for order in orders for start in range(len(words) - order + 1)
    ]
    judged = [found for gram in grams if (found := agreement(gram, language)) != UNDETERMINED]
    return sum(found != EXPECTED for found in judged) / len(judged) if judged else math.nan


def fit_lexicon(rows: pd.DataFrame) -> dict[str, frozenset[str]]:
    """Words of each language, as `comparable` writes them, from its direct FIT prompts and answers.

    Other kinds of prompt mix languages, and their words would count as the language's own.

    Args:
        rows: cleaned rows of all languages: language, kind, split, prompt, answer.
    """
    fit = rows[(rows["kind"] == "direct") & (rows["split"] == "fit")]
    return {
        str(language): frozenset(
            word for text in (*part["prompt"], *part["answer"]) for word in comparable(text).split()
        )
        for language, part in fit.groupby("language", sort=True)
    }


def _words_in(line: str) -> int:
    script = dominant_script(line)
    if script == NO_LETTERS:
        return 0
    if script in _UNSPACED:
        return sum(map(str.isalpha, line)) // 2
    return len(line.split())
