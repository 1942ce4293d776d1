"""Probing sets are made of what they declare."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mmie.data.composition import composition, forget_share
from mmie.data.references import accepted_answers
from mmie.errors import InputError


def test_shares_are_counted_by_kind_and_script():
    rows = pd.DataFrame(
        {"kind": ["mixed", "mixed", "direct", "direct"], "prompt": ["Say नदी", "Say river", "नदी", "12"]}
    )
    assert composition(rows) == {"direct": {"Deva": 0.5}, "mixed": {"Deva": 0.5, "Latn": 1.0}}


@pytest.mark.regression("DAT-14")
def test_the_share_of_nothing_is_undefined():
    with pytest.raises(InputError, match="undefined"):
        forget_share([], "Deva")


@pytest.mark.regression("DAT-09")
@pytest.mark.parametrize("language", ["hi", "hi_Latn", "ur", "pa", "bn"])
def test_every_fact_of_the_shipped_corpus_gets_its_declared_probes(language):
    path = Path(__file__).parents[2] / "data" / "atlas" / f"{language}.jsonl"
    rows = pd.read_json(path, lines=True, dtype=False)
    probes = rows[rows["kind"] == "adversarial"].groupby("fact_id").size()
    assert set(probes.index) == set(rows["fact_id"])
    assert set(probes) == {2}


def test_accepted_answers_hold_aliases():
    rows = pd.DataFrame(
        {
            "fact_id": ["f", "f"],
            "language": ["en", "en"],
            "answer": ["Ganga", "Ganga"],
            "aliases": ['["Ganges"]', "[]"],
        }
    )
    found = accepted_answers([rows])
    assert found["answer"].tolist() == ["Ganga", "Ganges"]
