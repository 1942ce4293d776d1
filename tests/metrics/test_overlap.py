import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.errors import InputError
from mmie.metrics.overlap import longest_common_subsequence, rouge_l
from mmie.metrics.text import chrf

PERFECT = {
    "Hindi": "भारतीय रुपया", "Urdu": "بھارتی روپیہ", "Punjabi": "ਭਾਰਤੀ ਰੁਪਇਆ", "Bengali": "ভারতীয় রুপি",
    "Japanese": "日本円", "Russian": "российский рубль", "Arabic": "الجنيه المصري", "Korean": "대한민국 원",
}  # fmt: skip


@pytest.mark.parametrize("language", PERFECT)
def test_perfect_answer_scores_one_on_every_overlap_metric(language) -> None:
    answer = PERFECT[language]
    assert chrf(answer, answer) == pytest.approx(1.0)
    assert rouge_l(answer, answer, units="characters") == 1.0
    assert rouge_l(answer, answer, units="words") == 1.0


@pytest.mark.parametrize("language", PERFECT)
def test_default_tokenizer_of_rouge_is_refused(language) -> None:
    with pytest.raises(InputError, match="drops letters"):
        rouge_l(PERFECT[language], PERFECT[language], units="rouge_score")


def test_default_tokenizer_is_refused_where_only_a_year_would_remain() -> None:
    with pytest.raises(InputError):
        rouge_l("1965年に生まれた", "1965年に死んだ", units="rouge_score")
    assert rouge_l("born in 1965", "Born in 1965.", units="rouge_score") == 1.0


def test_recall_by_hand() -> None:
    # "a c" is the longest common subsequence of three words of the reference.
    assert rouge_l("a x c", "a b c", units="words") == pytest.approx(2 / 3)
    assert rouge_l("", "a b", units="words") == 0.0
    assert math.isnan(rouge_l("a", "।", units="words"))
    assert longest_common_subsequence("ABCBDAB", "BDCABA") == 4


@settings(max_examples=50)
@given(st.text(max_size=12), st.text(max_size=12))
def test_common_subsequence_is_symmetric_and_bounded(first, second) -> None:
    length = longest_common_subsequence(first, second)
    assert length == longest_common_subsequence(second, first) <= min(len(first), len(second))
    assert longest_common_subsequence(first, first) == len(first)
