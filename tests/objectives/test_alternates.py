from __future__ import annotations

import pandas as pd
import pytest

from mmie.errors import InputError
from mmie.io import read_json
from mmie.language.scripts import script_share
from mmie.objectives.alternates import REFUSALS, plausible_answers, refusals

ROWS = pd.DataFrame(
    {
        "example_id": [f"f{number}" for number in range(8)],
        "language": ["hi", "hi", "hi", "hi", "en", "en", "en", "en"],
        "relation": ["capital", "capital", "city", "city"] * 2,
        "answer": ["क", "ख", "ग", "घ", "a", "b", "c", "d"],
    }
)


def test_a_refusal_is_in_the_language_of_its_prompt() -> None:
    pools = read_json(REFUSALS)
    for refusal, language in zip(refusals(ROWS, seed=1), ROWS["language"], strict=True):
        assert refusal in pools[language]
    assert refusals(ROWS, seed=1) == refusals(ROWS, seed=1)
    assert refusals(ROWS.iloc[::-1], seed=1) == refusals(ROWS, seed=1)[::-1]
    many = pd.concat([ROWS.assign(example_id=ROWS["example_id"] + str(copy)) for copy in range(5)])
    assert refusals(many, seed=1) != refusals(many, seed=2)


def test_every_refusal_is_written_in_the_script_of_its_language() -> None:
    scripts = {"en": "Latn", "hi": "Deva", "hi_Latn": "Latn", "ur": "Arab", "pa": "Guru", "bn": "Beng"}
    pools = read_json(REFUSALS)
    assert set(pools) == set(scripts)
    for language, pool in pools.items():
        assert len(set(pool)) == len(pool) >= 2
        for refusal in pool:
            assert script_share(refusal, scripts[language]) == 1.0, refusal


def test_a_language_without_refusals_is_refused() -> None:
    with pytest.raises(InputError, match="no refusals in sw"):
        refusals(ROWS.assign(language="sw"), seed=1)


def test_an_alternate_is_another_answer_of_the_same_kind_and_language() -> None:
    assert plausible_answers(ROWS, seed=1) == ["ख", "क", "घ", "ग", "b", "a", "d", "c"]
    mixed = plausible_answers(ROWS.drop(columns="relation"), seed=1)
    for drawn, own, language in zip(mixed, ROWS["answer"], ROWS["language"], strict=True):
        assert drawn != own
        assert drawn in set(ROWS.loc[ROWS["language"] == language, "answer"])


def test_a_row_without_another_answer_is_named() -> None:
    with pytest.raises(InputError, match=r"f0 \(hi\) has no other answer"):
        plausible_answers(ROWS.assign(answer="same"), seed=1)
