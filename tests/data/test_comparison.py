"""Two texts are the same when a reader would say so, and only then."""

from __future__ import annotations

import pytest

from mmie.data.comparison import comparison_key, ids_hash, ngrams, row_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Delhi is here", "delhi IS here"),
        ("caf\u00e9", "cafe\u0301"),
        ("two  words\n", "two words"),
        ("zero\u200bwidth", "zerowidth"),
        ("क्\u200dष", "क्ष"),
        ("भारत की राजधानी।", "भारत की राजधानी"),
        ("“What?”", '"what"'),
    ],
)
def test_surface_differences_make_no_difference(one, other):
    assert comparison_key(one) == comparison_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("5 $", "5 €"), ("कि", "की"), ("?", "!"), ("a b", "ab"), ("ا", "آ")]
)
def test_meaning_makes_a_difference(one, other):
    assert comparison_key(one) != comparison_key(other)


def test_where_the_answer_begins_makes_a_difference():
    assert row_key("a b", "c") != row_key("a", "b c")


def test_a_text_of_n_words_has_one_ngram_of_n():
    assert ngrams("one two three", 3) == {"one two three"}
    assert ngrams("one two", 3) == set()
    assert ngrams("a b c d", 3) == {"a b c", "b c d"}


def test_a_set_of_ids_has_one_hash_in_any_order():
    assert ids_hash(["a", "b"]) == ids_hash(["b", "a"]) != ids_hash(["a", "c"])
