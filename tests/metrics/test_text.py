import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.metrics.text import (
    broken_character_share,
    chrf,
    chrf_signature,
    comparable,
    contains_words,
    distinct_2,
    longest_repeat_share,
    mixed_word_share,
    normalise,
    scripts_in_use,
    starts_with_words,
)

PERFECT = (
    "भारतीय रुपया", "بھارتی روپیہ", "ਭਾਰਤੀ ਰੁਪਇਆ", "ভারতীয় রুপি", "日本円", "российский рубль",
    "الجنيه المصري", "대한민국 원", "Indian Rupee", "क",
)  # fmt: skip


@pytest.mark.parametrize("answer", PERFECT)
def test_perfect_answer_scores_one_in_every_script(answer) -> None:
    assert chrf(answer, answer) == pytest.approx(1.0)
    assert contains_words(f"x {answer}।", answer)


def test_unrelated_or_empty_answer_scores_zero() -> None:
    assert chrf("रुपया", "xyz") == 0.0
    assert chrf("", "रुपया") == 0.0


def test_chrf_equals_its_formula_by_hand() -> None:
    # "ab" against "ac": one of two unigrams, no bigram, no word: orders with n-grams on both sides
    # are char 1, char 2 and word 1; F2 of the mean precision and recall (both (0.5 + 0 + 0)/3).
    assert chrf("ab", "ac") == pytest.approx((0.5 + 0 + 0) / 3)
    assert "nw:2" in chrf_signature()


def test_normalisation_composes_and_drops_what_nobody_sees() -> None:
    assert normalise(" e\u0301  a\u200db\u00ad ") == "é ab"
    assert comparable("“Indian  Rupee.”") == comparable("indian rupee")
    assert comparable("रुपया।") == "रुपया"


def test_no_is_not_in_know() -> None:
    assert not contains_words("I know that", "no")
    assert contains_words("I say: no!", "no")
    assert not contains_words("anything", "")
    assert starts_with_words("Delhi, India", "delhi")
    assert not starts_with_words("Delhite", "delhi")


def test_longest_repeat_share_by_hand() -> None:
    assert longest_repeat_share(["yes"] * 4) == 1.0
    assert longest_repeat_share([*"abcabcabcx"]) == 0.9
    assert longest_repeat_share(["धीरे", "धीरे", "चलो"]) == 0.0
    assert longest_repeat_share([]) == 0.0


def test_distinct_2_by_hand() -> None:
    assert distinct_2("a b a b a") == 0.5
    assert distinct_2("a b c") == 1.0
    assert distinct_2("a") == 1.0


def test_half_written_last_letter_is_not_broken_text() -> None:
    assert broken_character_share("रुपया\ufffd") == 0.0
    assert broken_character_share("\ufffda\ufffdb") == 0.5
    assert broken_character_share("\ufffd") == 1.0
    assert broken_character_share("") == 0.0


@pytest.mark.regression("LID-11")
def test_foreign_letter_inside_a_word_is_a_mixed_word() -> None:
    assert mixed_word_share("p\u0430ris is big") == pytest.approx(1 / 3)
    assert mixed_word_share("भारत India") == 0.0
    assert mixed_word_share("日本のカメラ") == 0.0
    assert scripts_in_use("ab भा בב") == 3


@settings(max_examples=50)
@given(st.text(max_size=30), st.text(max_size=30))
def test_scores_stay_in_their_range(first, second) -> None:
    assert 0.0 <= chrf(first, second) <= 1.0 + 1e-9
    for value in (
        longest_repeat_share(first),
        distinct_2(first),
        mixed_word_share(first),
        broken_character_share(first),
    ):
        assert 0.0 <= value <= 1.0
    assert normalise(normalise(first)) == normalise(first)
