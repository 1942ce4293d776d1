"""Rows lose nothing that carries meaning, and get ids that depend on their content alone."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.data.cleaning import clean, split_text
from mmie.data.options import DataOptions
from mmie.data.records import Record


def one(record: Record, **options):
    return clean([record], "en", "Latn", DataOptions(**options))


def test_joiners_survive_cleaning_and_other_zero_width_marks_at_the_edges_do_not():
    (row,) = one(Record("f", 1, None, "\ufeff\u200bक्\u200dष", "a\u200cb ")).rows
    assert (row["prompt"], row["answer"]) == ("क्\u200dष", "a\u200cb")


def test_text_is_composed():
    (row,) = one(Record("f", 1, None, "cafe\u0301", "x")).rows
    assert row["prompt"] == "caf\u00e9"


def test_empty_text_is_rejected_with_its_line():
    result = one(Record("f", 9, None, "asked", " \u200b\u200d "))
    assert [(problem.line, problem.reason) for problem in result.rejected] == [(9, "empty_text")]
    assert not result.rows


def test_residue_is_counted_always_and_repaired_when_asked():
    record = Record("f", 1, '"One two three four",', "", "")
    kept, mended = one(record), one(record, repair_residue=True)
    assert kept.residue == {"found": 1}
    assert mended.residue == {"found": 1, "repaired": 1}
    assert (mended.rows[0]["prompt"], mended.rows[0]["answer"]) == ("One two", "three four")
    assert str(kept.rows[0]["prompt"]).startswith('"')


def test_a_row_of_another_language_or_script_is_rejected():
    result = one(Record("f", 1, None, "a", "b", {"language": "hi"}))
    other = one(Record("f", 1, None, "a", "b", {"script": "Deva"}))
    assert result.rejected[0].reason == "language_mismatch"
    assert other.rejected[0].reason == "script_mismatch"


def test_one_word_cannot_be_halved():
    assert split_text("word", 0.5) is None
    assert one(Record("f", 1, "word", "", "")).rejected[0].reason == "too_short"


def test_a_text_is_halved_by_words():
    assert split_text("one two  three four", 0.5) == ("one two", "three four")
    assert split_text("one two", 0.0) == ("one", "two")
    assert split_text("one two", 1.0) == ("one", "two")


@settings(max_examples=50)
@given(st.lists(st.text("abक ", min_size=1), min_size=2), st.floats(0, 1))
def test_the_halves_are_the_text(words, share):
    text = " ".join(words)
    halves = split_text(text, share)
    if halves is None:
        assert len(text.split()) < 2
    else:
        assert " ".join(halves).split() == text.split()
        assert all(halves)


def test_the_id_of_a_row_without_one_depends_on_its_content_alone():
    (row,) = one(Record("f", 1, None, "asked", "said")).rows
    (moved,) = one(Record("elsewhere", 77, None, "asked", "said")).rows
    assert row["example_id"] == moved["example_id"] == row["group"] == row["fact_id"]
