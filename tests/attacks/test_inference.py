from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from mmie.attacks.inference import ATTACKS, Target, attacked
from mmie.data.references import accepted_answers
from mmie.interventions import assert_restored
from mmie.stage_options import Attacks
from mmie.statistics.cells import attack_cells

OPTIONS = {
    "items": 4,
    "int8": {},
    "int4": {},
    "rewrite": {"variants": ["prefix", "padding"], "items": 3, "examples": 1, "padding_tokens": 6},
    "steer": {"strengths": [0.5], "layers": None, "dev_items": 3},
    "detach": {},
}


@pytest.fixture
def corpus(toy_rows: Any) -> dict[str, pd.DataFrame]:
    """Two toy languages with the columns of the data stage: 4 groups of every split."""
    tables = {}
    for language, first in (("xx", 4), ("yy", 31)):
        rows = toy_rows(language, first_word=first)
        tables[language] = rows.assign(
            split=["fit"] * 4 + ["dev"] * 4 + ["test"] * 4,
            kind="direct", template_split="trained", template_id="q1", relation="r",
            script="Latn", aliases="[]",
        )  # fmt: skip
    return tables


def run(model: Any, tokenizer: Any, arm: Any, corpus: Any, score: Any, **changed: Any) -> Any:
    target = Target(
        model, tokenizer, arm, score,
        probability=lambda changed, rows: score(changed, rows)["answer_probability"].tolist(),
        seed=1, batch_size=4,
    )  # fmt: skip
    references = accepted_answers(corpus.values())
    return attacked(target, OPTIONS | changed, corpus, references, forget=["xx"], retain=["yy"])


@pytest.mark.parametrize("kind", ["none", "oracle", "noise", "lora", "reft"])
def test_every_arm_goes_through_every_attack_and_the_base_comes_back(
    kind: str, toy_model: Any, toy_tokenizer: Any, arm: Any, corpus: Any, score: Any
) -> None:
    with assert_restored(toy_model):
        tables = dict(run(toy_model, toy_tokenizer, arm(kind), corpus, score))
    assert list(tables) == [
        "int8", "int4", "rewrite", "rewrite_variants", "steer", "steer_random", "detach",
    ]  # fmt: skip
    columns = ["step", "variant", "example_id", "group", "language", "leak", "correct", "answer_probability"]
    for name, table in tables.items():
        assert [column for column in table if column != "prompt"] == columns, name
        labelled = table.assign(attack=name, arm=kind, seed=0)
        if name != "rewrite_variants":
            ((language, attack),) = attack_cells(labelled)
            assert (language, attack) == ("xx", name)
            assert len(table) == (3 if name == "rewrite" else 4)
    assert len(tables["rewrite_variants"]) == 6


def test_an_attack_that_is_left_out_does_not_run(
    toy_model: Any, toy_tokenizer: Any, arm: Any, corpus: Any, score: Any
) -> None:
    left = dict(
        run(toy_model, toy_tokenizer, arm("none"), corpus, score, rewrite=None, steer=None, int4=None)
    )
    assert list(left) == ["int8", "detach"]


def test_every_configured_attack_has_code() -> None:
    names = {name for name in Attacks().configured if not name.startswith("relearn")}
    assert names == set(ATTACKS)
    assert Attacks(steer=None, relearn=None).configured == ["int8", "int4", "rewrite", "detach"]
