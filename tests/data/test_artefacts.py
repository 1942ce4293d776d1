"""Residue of careless export is seen, counted over all rows, and repaired without harm."""

from __future__ import annotations

import pytest

from mmie.data.artefacts import artefact_counts, artefacts_of, repaired
from mmie.errors import InputError


@pytest.mark.regression("DAT-08")
@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('"भारत एक देश है।",', "भारत एक देश है।"),
        ('"India is a country', "India is a country"),
        ('India is a country",', "India is a country"),
        ("['India is a country',", "India is a country"),
        ('"India is a country"]', "India is a country"),
    ],
)
def test_wrapping_residue_is_seen_and_repaired(text, clean):
    assert "wrapping_residue" in artefacts_of(text)
    assert repaired(text) == clean
    assert not artefacts_of(clean)


@pytest.mark.parametrize(
    "text",
    [
        "It is called the Ganga.",
        '"To be" is a verb',
        'He said "yes"',
        '"A whole quoted sentence."',
        "the girls', and the boys'",
        'a screen of 27"',
        "a < b and b > c",
        "",
    ],
)
def test_good_text_is_left_alone(text):
    assert repaired(text) == text
    assert not artefacts_of(text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('a "stray mark inside', "unbalanced_quotes"),
        ("“never closed", "unbalanced_quotes"),
        ("<p>paragraph</p>", "markup"),
        ("salt &amp; pepper", "markup"),
        ("broken \ufffd letter", "broken_characters"),
    ],
)
def test_other_artefacts_are_told_apart(text, kind):
    assert artefacts_of(text) == {kind}


def test_a_row_counts_once_for_each_kind():
    counts = artefact_counts([("<b>x</b>", "<i>y</i>"), ("clean", "clean")])
    assert counts["markup"] == 1


@pytest.mark.regression("DAT-14")
def test_rates_of_nothing_are_undefined():
    with pytest.raises(InputError, match="undefined"):
        artefact_counts([])
