"""Duplicates are found over all rows, and nothing that only resembles is called one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.data.comparison import comparison_key
from mmie.data.duplicates import SIMILAR, exact_duplicates, near_duplicates

SENTENCE = "the long river runs through the old town and ends in a wide lake"


def jaccard(one: str, other: str) -> float:
    sets = []
    for text in (one, other):
        padded = f" {comparison_key(text)} ".ljust(5)
        sets.append({padded[start : start + 5] for start in range(len(padded) - 4)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.regression("DAT-04")
@pytest.mark.parametrize(
    "variant",
    [
        "WHERE is the café?",
        "Where is the cafe\u0301?",
        " Where  is\tthe café?",
        "Where is\u200b the ca\u200dfé",
    ],
)
def test_variants_of_case_form_spacing_and_zero_width_are_duplicates(variant):
    prompts = ["Where is the café?", "Who is there?", variant]
    assert exact_duplicates(prompts, ["here", "me", "Here."]) == {2: 0}


def test_the_same_prompt_with_another_answer_is_no_duplicate():
    assert exact_duplicates(["who?", "who?"], ["me", "you"]) == {}


@pytest.mark.regression("DAT-04", "DAT-26")
def test_a_near_duplicate_in_the_last_of_many_rows_is_found():
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list("abcdefghijklmnop"), 6)) for _ in range(400)]
    texts = [" ".join(generator.choice(words, 12)) for _ in range(3000)]
    texts[-1] = texts[7].replace(texts[7].split()[0], "zzzzzz", 1)
    assert jaccard(texts[-1], texts[7]) >= SIMILAR
    assert near_duplicates(texts) == {7: 2999, 2999: 7}


def test_rows_of_one_template_resemble_each_other_by_construction():
    texts = [SENTENCE, f"{SENTENCE}s"]
    assert near_duplicates(texts, templates=["river", "river"]) == {}
    assert near_duplicates(texts, templates=["river", "lake"]) == {0: 1, 1: 0}
    assert near_duplicates(texts, templates=["", ""]) == {0: 1, 1: 0}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("ab cक", max_size=12), min_size=2, max_size=8))
def test_near_duplicates_agree_with_every_pair_compared(texts):
    similar = {
        (one, other)
        for one in range(len(texts))
        for other in range(len(texts))
        if one != other and jaccard(texts[one], texts[other]) >= SIMILAR
    }
    found = near_duplicates(texts)
    assert set(found.items()) <= similar
    # Identical texts share every band, so they can never be missed.
    same = {one for one, other in similar if comparison_key(texts[one]) == comparison_key(texts[other])}
    assert same <= set(found)


def test_a_single_text_has_no_near_duplicate():
    assert near_duplicates([SENTENCE]) == {}
