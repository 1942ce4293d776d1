"""Numbers and codes as a person reads them."""

from __future__ import annotations

import math

import pytest

from mmie.report import words


def test_what_was_not_measured_is_said_and_never_a_number() -> None:
    for value in (None, math.nan, math.inf):
        assert (
            words.number(value)
            == words.signed(value)
            == words.percent(value)
            == words.probability(value)
            == "n/m"
        )
    assert words.interval(None, 0.5) == "no interval"


def test_numbers_keep_what_matters() -> None:
    assert words.number(0.1234) == "0.12"
    assert words.number(-0.0421) == "−0.042"
    assert words.signed(0.2) == "+0.20"
    assert words.probability(0.0004) == "< 0.001"
    assert words.percent(0.125) == "12 %"
    assert words.count(12345) == "12,345"


@pytest.mark.regression("REP-12")
def test_shares_are_computed_from_counts() -> None:
    assert words.share_of(296_450, 124_739_332) == "296,450 of 124,739,332 (0.24 %)"


def test_a_verdict_reads_as_a_sentence() -> None:
    stop = {"decision": "STOP", "codes": ["no_effect", "not_robust"], "reasons": [], "gates": {}}
    assert words.headline(stop) == "No effect; does not hold under attack."
    go = {
        "decision": "PROCEED",
        "codes": [],
        "reasons": [],
        "gates": {"a": {"required": True}, "b": {"required": False}},
    }
    assert words.headline(go) == "Passes all 1 required gates."


def test_only_signs_become_minus_signs() -> None:
    assert words.sentence("a change of -0.05 (-0.1 to 0.0) in lora-2 of 13-grams") == (
        "a change of −0.05 (−0.1 to 0.0) in lora-2 of 13-grams"
    )


def test_language_codes_have_names_and_tags() -> None:
    assert words.language("hi_Latn") == "Hindi (Latin script)"
    assert words.language_tag("hi_Latn") == "hi-Latn"
