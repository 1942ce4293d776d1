"""What two sets share is counted both ways, and fails unless it was declared."""

from __future__ import annotations

import pytest

from mmie.data.overlap import overlaps
from mmie.errors import InputError

LONG = "there is a very old town by the long river that ends in the wide lake"


def row(group: str, prompt: str, answer: str = "yes", template: str = ""):
    return {
        "group": group, "prompt": prompt, "answer": answer, "template_id": template, "file": f"{group}.jsonl",
        "line": 4,
    }  # fmt: skip


@pytest.mark.regression("DAT-04", "DAT-10")
def test_a_copied_row_is_reported_with_both_sets():
    sets = {
        "forget/fit": [row("a", "Where is it?"), row("b", "Who is it?")],
        "retain/test": [row("c", "where IS it", "Yes.")],
    }
    found = overlaps(sets)
    assert found.matrix == {
        "forget/fit": {"retain/test": {"text": 1, "phrase": 0}},
        "retain/test": {"forget/fit": {"text": 1, "phrase": 0}},
    }
    (problem,) = found.undeclared
    assert "forget/fit" in str(problem)
    assert "retain/test" in str(problem)
    assert str(problem).startswith("a.jsonl:4")
    assert "c.jsonl:4" in str(problem)


@pytest.mark.regression("DAT-10")
def test_a_body_copied_into_a_longer_text_is_found():
    sets = {"forget/fit": [row("a", LONG)], "retain/fit": [row("b", f"Translate this: {LONG}")]}
    assert overlaps(sets).matrix["retain/fit"] == {"forget/fit": {"text": 0, "phrase": 1}}


def test_a_declared_overlap_is_counted_and_does_not_fail():
    sets = {"forget/fit": [row("a", "Where?")], "retain/fit": [row("b", "Where?")]}
    found = overlaps(sets, ["retain/fit~forget/fit"])
    assert found.matrix and not found.undeclared


def test_a_declaration_of_unknown_sets_is_an_error():
    with pytest.raises(InputError, match="forget/fit"):
        overlaps({"forget/fit": []}, ["forget/fit~typo"])


def test_disjoint_sets_have_an_empty_matrix():
    assert overlaps({"a": [row("a", "Where?")], "b": [row("b", "Who?")]}).matrix == {}
