"""Counterfactual triples: a benign pair with one meaning, and an attack on another fact."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

Row = dict[str, Any]
Triples = dict[str, list[Row]]

REQUIRED = {
    "triple_id", "template_id", "forget_id", "family", "lang_a", "lang_p", "lang_x", "script_a", "script_p",
    "script_x", "system", "anchor", "counterfactual", "adversarial", "anchor_response",
    "adversarial_response", "cf_kind",
}  # fmt: skip


def base(language: str) -> str:
    return language.split("_")[0]


def test_every_triple_has_the_required_fields(triples: Triples) -> None:
    for rows in triples.values():
        assert rows and all(set(row) >= REQUIRED for row in rows)


def test_ids_are_unique_and_no_prompt_pair_occurs_twice(triples: Triples) -> None:
    rows = [row for found in triples.values() for row in found]
    assert len({row["triple_id"] for row in rows}) == len(rows)
    for found in triples.values():
        assert len({(row["anchor"], row["counterfactual"]) for row in found}) == len(found)
        assert len({row["adversarial"] for row in found}) == len(found)


@pytest.mark.regression("DAT-24")
def test_the_twin_asks_for_the_same_fact(triples: Triples, atlas: dict[str, list[Row]]) -> None:
    fact_of = {
        (language, row["prompt"]): row["fact_id"]
        for language, rows in atlas.items()
        for row in rows
        if row["kind"] == "direct"
    }
    answer_of = {
        (language, row["fact_id"]): row["answer"] for language, rows in atlas.items() for row in rows
    }
    for rows in triples.values():
        for row in rows:
            fact = fact_of[row["lang_a"], row["anchor"]]
            assert fact_of[row["lang_p"], row["counterfactual"]] == fact
            assert row["anchor_response"] == answer_of[row["lang_a"], fact]
            assert row["cf_response"] == answer_of[row["lang_p"], fact]


def test_benign_prompts_are_never_in_the_attacked_language(triples: Triples) -> None:
    for language, rows in triples.items():
        for row in rows:
            assert base(row["lang_a"]) != base(language) != base(row["lang_p"])


def test_an_attack_holds_no_benign_answer_and_no_held_out_fact(
    triples: Triples, atlas: dict[str, list[Row]]
) -> None:
    unseen = {row["fact_id"] for row in atlas["en"] if row.get("split") == "holdout"}
    for rows in triples.values():
        for row in rows:
            assert row["anchor_response"] not in row["adversarial"]
            assert row["forget_id"] not in unseen


def test_a_refusal_is_in_the_script_of_its_prompt(triples: Triples) -> None:
    letters = {"Latn": "LATIN", "Deva": "DEVANAGARI", "Arab": "ARABIC", "Guru": "GURMUKHI", "Beng": "BENGALI"}
    for rows in triples.values():
        for row in rows:
            found = {
                unicodedata.name(sign).split()[0] for sign in row["adversarial_response"] if sign.isalpha()
            }
            assert found == {letters[row["script_x"]]}
