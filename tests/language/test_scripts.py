import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.language.scripts import (
    MIXED,
    NO_LETTERS,
    character_script,
    dominant_script,
    script_share,
    script_shares,
)


@pytest.mark.regression("LID-01")
@pytest.mark.parametrize(
    ("text", "script"),
    [("ਭਾਰਤ ਦੀ ਮੁਦਰਾ ਰੁਪਇਆ ਹੈ।", "Guru"), ("ভারতের মুদ্রা রুপি। আর কিছু নয়॥", "Beng")],
)
def test_danda_is_no_evidence_for_devanagari(text: str, script: str) -> None:
    assert script_shares(text) == {script: 1.0}
    assert script_share(text, "Deva") == 0.0


@pytest.mark.regression("LID-01")
def test_script_property_decides_not_the_code_block() -> None:
    assert character_script("\u0915") == "Deva"
    for shared in "\u0964\u0965\u060c\u0951\u200c\u200d":
        assert character_script(shared) is None
    for neither_letter_nor_mark in "\u0966\u096f\u0970":
        assert character_script(neither_letter_nor_mark) is None


@pytest.mark.regression("LID-02")
def test_text_without_letters_has_no_script() -> None:
    for text in ("", "   ", "। ॥", "123 ४५", "?!"):
        assert math.isnan(script_share(text, "Deva"))
        assert script_shares(text) == {}
        assert dominant_script(text) == NO_LETTERS


@pytest.mark.regression("LID-02")
def test_one_hindi_word_does_not_make_an_english_sentence_hindi() -> None:
    assert dominant_script("The word for India is भारत in that country") == "Latn"
    assert dominant_script("India भारत") == MIXED


def test_share_counts_letters_and_marks_by_hand() -> None:
    # 4 Latin letters; भारत is 3 letters and 1 vowel sign.
    assert script_share("abcd भारत 12!", "Deva") == 0.5
    assert script_shares("abcd भारत") == {"Deva": 0.5, "Latn": 0.5}


@pytest.mark.regression("LID-11")
def test_cyrillic_letter_inside_a_latin_word_is_seen() -> None:
    assert script_shares("p\u0430ris") == {"Latn": 0.8, "Cyrl": 0.2}


def test_japanese_mixes_its_three_scripts_and_is_still_one() -> None:
    text = "日本の通貨は円です"
    assert script_share(text, "Jpan") == 1.0
    assert dominant_script(text) == "Jpan"


@settings(max_examples=50)
@given(st.text(max_size=40))
def test_shares_sum_to_one_or_there_are_none(text: str) -> None:
    shares = script_shares(text)
    assert not shares or math.isclose(sum(shares.values()), 1.0)
