"""A file has one shape; whatever does not fit it is an error that names the line."""

from __future__ import annotations

import pytest

from mmie.data.records import read_records
from mmie.errors import InputError

ROW = {"prompt": "What is it?", "answer": "a lake"}


@pytest.mark.parametrize(
    ("row", "prompt", "answer"),
    [
        (ROW, "What is it?", "a lake"),
        ({"instruction": "Translate.", "input": "lake", "output": "झील"}, "Translate.\nlake", "झील"),
        ({"instruction": "Speak.", "output": "झील"}, "Speak.", "झील"),
        ({"question": "Who?", "answer": "me"}, "Who?", "me"),
        ({"prompt": "Once upon", "completion": "a time"}, "Once upon", "a time"),
        (
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Who?"},
                    {"role": "assistant", "content": "me"},
                ]
            },
            "Be brief.\nWho?",
            "me",
        ),
    ],
)
def test_every_shape_is_read_whole(write_rows, row, prompt, answer):
    (record,) = read_records(write_rows([row])).rows
    assert (record.prompt, record.answer, record.text) == (prompt, answer, None)


def test_a_plain_text_is_a_text(write_rows):
    (record,) = read_records(write_rows([{"text": "Once upon a time"}])).rows
    assert record.text == "Once upon a time"


@pytest.mark.regression("DAT-22")
def test_a_context_is_part_of_the_prompt(write_rows):
    rows = [{**ROW, "context": "Loktak floats."}, ROW]
    first, second = read_records(write_rows(rows)).rows
    assert first.prompt == "Loktak floats.\nWhat is it?"
    assert second.prompt == "What is it?"


@pytest.mark.regression("DAT-01", "DAT-22")
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"prompt": "What is it?", ', "invalid_json"),
        ({**ROW, "colour": "red"}, "unknown_field"),
        ({"prompt": "What is it?"}, "missing_field"),
        ("just some text", "invalid_json"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "missing_field"),
    ],
)
def test_a_line_that_breaks_the_shape_is_named(write_rows, bad, reason):
    found = read_records(write_rows([ROW, ROW, bad, ROW]))
    assert [(problem.line, problem.reason) for problem in found.problems] == [(3, reason)]
    assert [record.line for record in found.rows] == [1, 2, 4]


def test_an_unknown_field_names_the_nearest_known_one(write_rows):
    (problem,) = read_records(write_rows([{**ROW, "langauge": "hi"}])).problems
    assert "'language'" in str(problem)
    assert "rows.jsonl:1" in str(problem)


def test_a_listed_field_is_ignored_and_counted(write_rows):
    found = read_records(write_rows([{**ROW, "colour": "red"}, ROW]), ignored_fields=["colour"])
    assert found.ignored == {"colour": 1}
    assert not found.problems


def test_the_first_row_sets_the_shape_of_the_file(write_rows):
    found = read_records(write_rows([{"text": "plain"}, ROW]))
    assert found.schema == "text"
    assert [problem.line for problem in found.problems] == [2]


@pytest.mark.regression("DAT-23")
def test_a_field_of_another_shape_must_not_contradict(write_rows):
    repeated = {**ROW, "question": "What is it?"}
    contradicting = {**ROW, "output": "a pond"}
    found = read_records(write_rows([ROW, repeated, contradicting]))
    assert [(problem.line, problem.reason) for problem in found.problems] == [(3, "conflict")]
    assert [record.answer for record in found.rows] == ["a lake", "a lake"]


@pytest.mark.parametrize(
    "bad",
    [
        {**ROW, "answer": 7},
        {**ROW, "split": "train"},
        {**ROW, "kind": "hard"},
        {**ROW, "group": ""},
        {**ROW, "id": "a", "example_id": "b"},
        {**ROW, "aliases": "a pond"},
    ],
)
def test_a_field_with_a_wrong_value_is_a_problem(write_rows, bad):
    (problem,) = read_records(write_rows([ROW, bad])).problems
    assert problem.line == 2


def test_the_last_message_must_be_an_answer(write_rows):
    row = {"messages": [{"role": "assistant", "content": "hi"}, {"role": "user", "content": "hi"}]}
    (problem,) = read_records(write_rows([row])).problems
    assert "assistant" in str(problem)


def test_numbers_may_be_ids(write_rows):
    (record,) = read_records(write_rows([{**ROW, "id": 7}])).rows
    assert record.metadata["example_id"] == "7"


def test_a_file_without_a_known_shape_is_an_error(write_rows):
    with pytest.raises(InputError, match=r"rows.jsonl:1: no known shape.*body"):
        read_records(write_rows([{"body": "text"}]))


def test_an_unknown_schema_is_an_error(write_rows):
    with pytest.raises(InputError, match="row_schema"):
        read_records(write_rows([ROW]), schema="legacy")
