"""Answer states, languages and overlap of generations, wherever they were made."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmie.language.identify import EXPECTED, UNDETERMINED, Identifier
from mmie.language.onset import lid_onset, lid_onset_script_blind
from mmie.language.scripts import script_share
from mmie.metrics.answer_state import DEFAULTS, Thresholds, answer_state, is_leak
from mmie.metrics.confusion import confusion
from mmie.metrics.text import chrf, comparable, contains_words, distinct_2, longest_repeat_share, normalise

if TYPE_CHECKING:
    import pandas as pd

Romanise = Callable[[str, str], str]
"""(text, language) -> Latin letters."""


def judge(
    rows: pd.DataFrame,
    generations: Sequence[str],
    references: pd.DataFrame,
    identifier: Identifier,
    *,
    thresholds: Thresholds = DEFAULTS,
) -> dict[str, list[Any]]:
    """Answer state, language and leak of generations that were made elsewhere.

    Args:
        rows: fact_id, language, answer of each prompt.
        generations: one text for each row.

    Returns:
        Columns generation (normalised), answer_state, correct_any_language, leak, correct, gibberish,
        script_share, target_language, lid, lid_votes.
    """
    texts = [normalise(text) for text in generations]
    answers = _answers_by_fact(references)
    # One batch for all distinct texts; what follows reads the verdicts that are already there.
    verdicts = identifier.identify(texts)
    columns: dict[str, list[Any]] = {"generation": texts}
    for text, fact, language, answer, verdict in zip(
        texts, rows["fact_id"], rows["language"], rows["answer"], verdicts, strict=True
    ):
        known = answers.get(str(fact), {})
        agreement = identifier.agreement(text, language)
        own = list(dict.fromkeys([answer, *known.get(language, [])]))
        state = answer_state(text, own, agreement, language=language, thresholds=thresholds)
        every = [*own, *(item for group in known.values() for item in group)]
        anywhere = state == "correct" or any(contains_words(text, item) for item in every)
        in_language = math.nan if agreement == UNDETERMINED else float(agreement == EXPECTED)
        for name, value in (
            ("answer_state", state),
            ("correct_any_language", anywhere),
            ("leak", float(is_leak(state, anywhere))),
            ("correct", float(state == "correct")),
            ("gibberish", float(state == "empty_gibberish")),
            ("script_share", script_share(text, identifier.scripts[language])),
            ("target_language", in_language),
            ("lid", verdict.language),
            ("lid_votes", verdict.record()),
        ):
            columns.setdefault(name, []).append(value)
    return columns


def overlap_scores(generations: Sequence[str], references: Sequence[str]) -> dict[str, list[float]]:
    """chrF++ against the expected answer, and how much a text repeats itself: chrf, distinct_2,
    repeat_share."""
    return {
        "chrf": [chrf(text, normalise(answer)) for text, answer in zip(generations, references, strict=True)],
        "distinct_2": [distinct_2(text) for text in generations],
        "repeat_share": [longest_repeat_share(comparable(text).split()) for text in generations],
    }


def confusion_scores(
    responses: Sequence[str],
    languages: Sequence[str],
    identifier: Identifier,
    lexicon: Mapping[str, Collection[str]] | None,
) -> dict[str, list[float]]:
    """Language confusion of raw responses: line_pass, line_accuracy, word_pass.

    Their means over judged rows are LPR, line accuracy and WPR; NaN rows are the skipped ones.
    """
    found = [
        confusion(response, language, identifier, lexicon)
        for response, language in zip(responses, languages, strict=True)
    ]
    return {
        "line_pass": [item.line_pass for item in found],
        "line_accuracy": [item.line_accuracy for item in found],
        "word_pass": [item.word_pass for item in found],
    }


def onset_scores(
    table: pd.DataFrame, identifier: Identifier, romanise: Romanise | None
) -> dict[str, list[float]]:
    """lid_onset and lid_onset_script_blind of the columns generation and language."""
    aware = [
        lid_onset(text, language, identifier)
        for text, language in zip(table["generation"], table["language"], strict=True)
    ]
    blind = [math.nan] * len(table)
    for language in sorted(set(table["language"])):
        places = [place for place, code in enumerate(table["language"]) if code == language]
        texts = [table["generation"].iloc[place] for place in places]
        scores = lid_onset_script_blind(texts, language, identifier, romanise or _romanise)
        for place, score in zip(places, scores, strict=True):
            blind[place] = score
    return {"lid_onset": aware, "lid_onset_script_blind": blind}


def _romanise(text: str, language: str) -> str:
    # Its tables take seconds to load, so only a word in other letters loads them.
    from mmie.data.romanise import romanise

    return romanise(text, language)


def _answers_by_fact(references: pd.DataFrame) -> Mapping[str, Mapping[str, list[str]]]:
    answers: dict[str, dict[str, list[str]]] = {}
    for fact, language, answer in zip(
        references["fact_id"], references["language"], references["answer"], strict=True
    ):
        answers.setdefault(str(fact), {}).setdefault(str(language), []).append(str(answer))
    return answers
