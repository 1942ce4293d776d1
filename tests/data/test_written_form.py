"""A file's rows are written in the language and script that it declares, and shown to be."""

from __future__ import annotations

import math

import pytest

from mmie.data.options import DataOptions
from mmie.data.written_form import (
    likely_script,
    misplaced_rows,
    native_script,
    reads_as_english,
    reads_as_romanised,
    romanised_share,
)
from mmie.errors import InputError


def row(prompt: str, answer: str, kind: str = "direct") -> dict[str, str | int]:
    return {"prompt": prompt, "answer": answer, "kind": kind, "file": "f", "line": 1}


def reasons(rows, language):
    found = misplaced_rows(rows, language, likely_script(language), DataOptions())
    return {place: problem.reason for place, problem in found.items()}


@pytest.mark.parametrize(
    ("language", "script"),
    [
        ("hi", "Deva"),
        ("hi_Latn", "Latn"),
        ("ur", "Arab"),
        ("pa", "Guru"),
        ("bn", "Beng"),
        ("pa_Arab", "Arab"),
    ],
)
def test_a_language_code_has_a_script(language, script):
    assert likely_script(language) == script


def test_an_unknown_language_is_an_error_with_a_remedy():
    with pytest.raises(InputError, match="qqq_Latn"):
        likely_script("qqq")


def test_only_a_language_with_another_usual_script_is_romanised():
    assert native_script("hi_Latn") == "Deva"
    assert native_script("hi") is None
    assert native_script("en_Latn") is None


def test_a_row_in_another_script_is_rejected_and_numbers_are_no_evidence():
    rows = [row("भारत कब बना?", "१९४७"), row("भारत कहाँ है?", "in Asia"), row("भारत कब बना?", "1947")]
    assert reasons(rows, "hi") == {1: "script_mismatch"}


def test_the_danda_is_no_evidence_against_bengali():
    assert reasons([row("এটা একটা দেশ।", "ভারত।।।।।।।।")], "bn") == {}


def test_prompts_of_probes_may_hold_other_languages_but_answers_may_not():
    rows = [row("Answer in Hindi: where?", "एशिया", "mixed"), row("एशिया कहाँ?", "Asia", "mixed")]
    assert reasons(rows, "hi") == {1: "script_mismatch"}


@pytest.mark.regression("DAT-11")
def test_a_romanised_row_with_native_letters_is_rejected():
    rows = [
        row("bharat ki rajdhani kya hai?", "dilli"),
        row("भारत की राजधानी क्या है?", "दिल्ली"),
        row("bharat ki rajdhani kya hai?", "dilli yani दि"),
    ]
    assert reasons(rows, "hi_Latn") == {1: "script_mismatch", 2: "native_letters"}


@pytest.mark.regression("DAT-16")
def test_english_is_not_romanised_hindi():
    rows = [
        row("bharat ki rajdhani kya hai?", "nai dilli"),
        row("What is the capital of India?", "It is the city of Delhi"),
    ]
    assert reasons(rows, "hi_Latn") == {1: "language_mismatch"}
    assert reads_as_romanised("bharat ki rajdhani kya hai?", "hi_Latn") is True
    assert reads_as_romanised("What is the capital of India?", "hi_Latn") is False


@pytest.mark.regression("DAT-16")
def test_a_set_is_romanised_by_positive_evidence_and_not_for_lack_of_native_letters():
    names = [row("Xu Li Bo", "Wu Fo")] * 10
    assert romanised_share(names, "hi_Latn") == 0.0
    assert romanised_share([row("yah kya hai?", "nadi")] * 3 + names[:1], "hi_Latn") == 0.75


def test_a_language_without_a_word_list_is_not_measured():
    assert reads_as_romanised("enna idhu", "ta_Latn") is None
    assert math.isnan(romanised_share([row("enna idhu", "veedu")], "ta_Latn"))


@pytest.mark.regression("DAT-14")
def test_the_romanised_share_of_nothing_is_an_error():
    with pytest.raises(InputError, match="hi_Latn"):
        romanised_share([], "hi_Latn")


def test_one_english_word_is_no_evidence_for_english():
    assert not reads_as_english("Delhi the nagar", "hi_Latn")
