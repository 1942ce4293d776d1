"""Lines are decoded and parsed strictly, and every fault is named by line and byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.data.jsonl import read_objects
from mmie.errors import InputError

GOOD = '{"text": "good line"}\n'


def test_a_latin_1_byte_in_line_three_is_named_with_its_byte(tmp_path):
    path = tmp_path / "latin.jsonl"
    third = '{"text": "caf\u00e9"}\n'.encode("latin-1")
    path.write_bytes(GOOD.encode() * 2 + third + GOOD.encode())
    (problem,) = read_objects(path).problems
    assert (problem.line, problem.reason) == (3, "invalid_encoding")
    assert problem.byte == 2 * len(GOOD) + third.index(b"\xe9")


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    path = tmp_path / "bom.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    found = read_objects(path)
    assert found.objects == [(1, {"text": "good line"})]
    assert not found.problems


def test_another_encoding_is_read_when_it_is_declared(tmp_path):
    path = tmp_path / "latin.jsonl"
    path.write_bytes('{"text": "caf\u00e9"}\n'.encode("cp1252"))
    assert read_objects(path, encoding="cp1252").objects[0][1]["text"] == "caf\u00e9"


def test_utf_16_lines_are_told_apart(tmp_path):
    path = tmp_path / "wide.jsonl"
    path.write_bytes((GOOD * 3).encode("utf-16"))
    assert [line for line, _ in read_objects(path, encoding="utf-16").objects] == [1, 2, 3]


def test_a_line_separator_inside_a_string_ends_no_line(tmp_path):
    path = tmp_path / "separator.jsonl"
    path.write_text('{"text": "one\u2028still one\u0085still"}\n', encoding="utf-8")
    assert read_objects(path).lines == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "open', "invalid_json"),
        ('["a list"]', "not_an_object"),
        ('{"text": "a", "text": "b"}', "invalid_json"),
        ('{"text": NaN}', "invalid_json"),
        (r'{"text": "\ud800"}', "invalid_json"),
        ("[" * 100_000, "invalid_json"),
    ],
)
def test_a_line_that_is_no_object_is_a_problem_and_never_a_text(tmp_path, line, reason):
    path = tmp_path / "bad.jsonl"
    path.write_text(GOOD + line + "\n" + GOOD, encoding="utf-8")
    found = read_objects(path)
    assert [(problem.line, problem.reason) for problem in found.problems] == [(2, reason)]
    assert [line for line, _ in found.objects] == [1, 3]


def test_blank_lines_are_counted(tmp_path):
    path = tmp_path / "blank.jsonl"
    path.write_text(GOOD + "\n  \n" + GOOD, encoding="utf-8")
    found = read_objects(path)
    assert (found.lines, found.blank, len(found.objects)) == (4, 2, 2)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_an_error(tmp_path, content):
    path = tmp_path / "empty.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match="holds no rows"):
        read_objects(path)


def test_a_missing_file_and_an_unknown_encoding_are_errors(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_objects(tmp_path / "absent.jsonl")
    (tmp_path / "rows.jsonl").write_text(GOOD)
    with pytest.raises(InputError, match="utf-9"):
        read_objects(tmp_path / "rows.jsonl", encoding="utf-9")


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_any_text_comes_back_as_it_was_written(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("jsonl") / "rows.jsonl"
    path.write_bytes(
        "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()
    )
    assert [row["text"] for _, row in read_objects(path).objects] == texts


@settings(max_examples=50, deadline=None)
@given(data=st.binary(min_size=1, max_size=60))
def test_any_bytes_are_objects_or_problems_or_an_input_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bytes") / "rows.jsonl"
    path.write_bytes(data)
    try:
        found = read_objects(path)
    except InputError:
        return
    named = {line for line, _ in found.objects} | {problem.line for problem in found.problems}
    assert len(named) + found.blank >= found.lines
