"""A group's split depends on its name and the seed; no text crosses from one split to another."""

from __future__ import annotations

from collections import Counter

import pytest

from mmie.data.options import DataOptions
from mmie.data.splits import assign_splits, leaks, split_of

OPTIONS = DataOptions()
LONG = "there is a very old town by the long river that ends in the wide lake"


def row(group: str, split: str = "", prompt: str = "", template: str = "", line: int = 1):
    return {
        "group": group, "split": split, "prompt": prompt or f"about {group}", "answer": "yes",
        "template_id": template, "file": "f.jsonl", "line": line,
    }  # fmt: skip


def test_the_shares_are_met_in_the_long_run():
    counts = Counter(split_of(f"group{number}", 0, 0.5, 0.2) for number in range(10_000))
    assert abs(counts["fit"] - 5000) < 200
    assert abs(counts["dev"] - 2000) < 160


def test_another_seed_draws_another_split():
    splits = [[split_of(f"group{number}", seed, 0.5, 0.2) for number in range(50)] for seed in (0, 1)]
    assert splits[0] != splits[1]


def test_adding_rows_moves_no_group():
    few = [row(f"g{number}") for number in range(50)]
    many = [row(f"new{number}") for number in range(50)] + few
    assert assign_splits(many, OPTIONS)[0][50:] == assign_splits(few, OPTIONS)[0]


def test_a_declared_split_holds_for_the_whole_group():
    rows = [row("a", "holdout"), row("a"), row("b", "fit")]
    assert assign_splits(rows, OPTIONS) == (["holdout", "holdout", "fit"], [])


def test_a_group_in_two_splits_is_a_problem_with_both_places():
    _, (problem,) = assign_splits([row("a", "fit", line=3), row("a", "test", line=8)], OPTIONS)
    assert str(problem).startswith("f.jsonl:8: group 'a'")
    assert "f.jsonl:3" in str(problem)


@pytest.mark.regression("DAT-05")
def test_an_evaluation_prompt_that_fit_holds_is_a_leak():
    rows = [row("a", "test", "Who is it?"), row("b", "fit", "who is it"), row("c", "dev", "Who else?")]
    found = leaks(rows)
    assert list(found) == [0]
    assert found[0].reason == "split_leak"


@pytest.mark.regression("DAT-05")
def test_dev_must_not_hold_test_prompts_either():
    assert list(leaks([row("a", "test", "Who?"), row("b", "dev", "Who?")])) == [0]


def test_thirteen_shared_words_are_a_leak_unless_a_template_explains_them():
    texts = [f"{LONG} one", f"{LONG} two"]
    free = [row("a", "fit", texts[0]), row("b", "test", texts[1])]
    templated = [row("a", "fit", texts[0], "town.q1"), row("b", "test", texts[1], "town.q1")]
    crossed = [row("a", "fit", texts[0], "town.q1"), row("b", "test", texts[1], "town.q2")]
    assert list(leaks(free)) == [1]
    assert leaks(templated) == {}
    assert list(leaks(crossed)) == [1]


def test_twelve_shared_words_are_no_leak():
    twelve = " ".join(LONG.split()[:12])
    assert leaks([row("a", "fit", f"{twelve} one"), row("b", "test", f"{twelve} two")]) == {}


def test_a_repeated_prompt_inside_a_split_is_no_leak():
    assert leaks([row("a", "fit", "Who?"), row("b", "fit", "Who?")]) == {}
