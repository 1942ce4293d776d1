"""What the shipped Atlas promises, checked on the files themselves."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from typing import Any

import pytest

Row = dict[str, Any]
Atlas = dict[str, list[Row]]

# Unicode names of the letters of each script, by hand.
LETTERS = {"Latn": "LATIN", "Deva": "DEVANAGARI", "Arab": "ARABIC", "Guru": "GURMUKHI", "Beng": "BENGALI"}


def own(rows: list[Row], kind: str) -> list[Row]:
    return [row for row in rows if row["kind"] == kind]


def scripts_of(text: str) -> set[str]:
    return {unicodedata.name(sign).split()[0] for sign in text if sign.isalpha()}


def test_there_are_at_least_500_facts_in_120_groups(atlas: Atlas) -> None:
    for rows in atlas.values():
        assert len({row["fact_id"] for row in rows}) >= 500
        assert len({row["group"] for row in rows}) >= 120


def test_direct_examples_are_the_same_in_every_language(atlas: Atlas) -> None:
    ids = [[row["example_id"] for row in own(rows, "direct")] for rows in atlas.values()]
    assert all(other == ids[0] for other in ids[1:])


def test_example_ids_are_unique_within_a_language(atlas: Atlas) -> None:
    for rows in atlas.values():
        assert len({row["example_id"] for row in rows}) == len(rows)


def test_a_fact_lies_in_the_same_group_and_split_everywhere(atlas: Atlas) -> None:
    places = defaultdict(set)
    for rows in atlas.values():
        for row in rows:
            places[row["fact_id"]].add((row["group"], row.get("split")))
    assert all(len(place) == 1 for place in places.values())


def test_a_group_is_held_out_as_a_whole(atlas: Atlas) -> None:
    splits = defaultdict(set)
    for row in atlas["en"]:
        splits[row["group"]].add(row.get("split"))
    assert all(len(split) == 1 for split in splits.values())
    share = sum(split == {"holdout"} for split in splits.values()) / len(splits)
    assert 0.05 < share < 0.15


def test_every_relation_has_three_trained_wordings_and_a_held_out_one(atlas: Atlas) -> None:
    for rows in atlas.values():
        templates = defaultdict(set)
        for row in own(rows, "direct"):
            templates[row["relation"]].add((row["template_id"], row["template_split"]))
        for found in templates.values():
            assert sum(split == "trained" for _, split in found) >= 3
            assert sum(split == "held_out" for _, split in found) >= 1


@pytest.mark.parametrize("kind", ["direct", "mixed", "adversarial"])
def test_no_prompt_occurs_twice_in_a_language(atlas: Atlas, kind: str) -> None:
    for rows in atlas.values():
        prompts = [row["prompt"] for row in own(rows, kind)]
        assert len(set(prompts)) == len(prompts)


def test_direct_rows_and_all_answers_are_in_the_script_they_name(atlas: Atlas) -> None:
    for rows in atlas.values():
        for row in rows:
            expected = {LETTERS[row["script"]]}
            assert scripts_of(row["answer"]) == expected
            if row["kind"] == "direct":
                assert scripts_of(row["prompt"]) == expected


def test_no_direct_prompt_contains_its_answer(atlas: Atlas) -> None:
    for rows in atlas.values():
        direct = own(rows, "direct")
        assert not [row for row in direct if row["answer"].casefold() in row["prompt"].casefold()]


def test_an_answer_tells_its_language(atlas: Atlas) -> None:
    answers = defaultdict(list)
    for rows in atlas.values():
        for row in own(rows, "direct"):
            if row["template_id"].endswith(".q1"):
                answers[row["fact_id"]].append(row["answer"].casefold())
    assert all(len(set(found)) == len(found) for found in answers.values())


@pytest.mark.regression("DAT-09")
def test_mixed_and_adversarial_prompts_hold_the_languages_they_declare(atlas: Atlas) -> None:
    for language in ("hi", "ur", "pa", "bn"):
        native = LETTERS[next(row["script"] for row in atlas[language])]
        for row in own(atlas[language], "mixed"):
            assert {native, "LATIN"} == scripts_of(row["prompt"])
        families = defaultdict(list)
        for row in own(atlas[language], "adversarial"):
            families[row["template_id"].split(".")[1]].append(scripts_of(row["prompt"]))
        assert all(found == {native} for found in families["continuation"] + families["role_play"])
        assert all(found == {native, "LATIN"} for found in families["code_mix"])
        assert all(found == {native, "LATIN"} for found in families["through_bridge"])
    other = [row for row in atlas["hi"] if row["template_id"].endswith(".other_script")]
    assert other and all(scripts_of(row["prompt"]) == {"LATIN"} for row in other)


@pytest.mark.regression("DAT-11")
def test_romanised_rows_differ_from_their_source_and_hold_no_native_letter(atlas: Atlas) -> None:
    source = {row["example_id"]: row for row in own(atlas["hi"], "direct")}
    for row in own(atlas["hi_Latn"], "direct"):
        twin = source[row["example_id"]]
        assert row["prompt"] != twin["prompt"] and row["answer"] != twin["answer"]
        assert row["prompt"].isascii() and row["answer"].isascii()


@pytest.mark.parametrize(
    ("fact_id", "answers"),
    [
        ("currency/IN", ("Indian Rupee", "भारतीय रुपया", "bhartiy rupaya", "بھارتی روپیہ")),
        ("city/Asia.Kolkata", ("India", "भारत", "bharat", "بھارت")),
    ],
)
def test_known_facts_are_true(atlas: Atlas, fact_id: str, answers: tuple[str, ...]) -> None:
    for language, answer in zip(("en", "hi", "hi_Latn", "ur"), answers, strict=True):
        assert {row["answer"] for row in atlas[language] if row["fact_id"] == fact_id} == {answer}


def test_romanised_questions_read_like_typed_hindi(atlas: Atlas) -> None:
    prompts = {row["prompt"] for row in atlas["hi_Latn"]}
    assert "bharat ki mudra kya hai?" in prompts
    assert "oman ki mukhya rajbhasha kya hai?" in prompts


@pytest.mark.regression("DAT-34")
def test_every_row_says_that_it_is_generated(atlas: Atlas) -> None:
    assert {row["provenance"] for rows in atlas.values() for row in rows} == {"generated"}
