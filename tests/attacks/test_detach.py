from __future__ import annotations

from typing import Any

import pytest

from mmie.attacks.detach import NOT_REMOVABLE, REMOVED, detach
from mmie.interventions import assert_restored


@pytest.mark.parametrize("kind", ["none", "lora", "reft"])
def test_what_can_be_taken_off_leaves_the_base(
    kind: str, toy_model: Any, arm: Any, sets: Any, score: Any
) -> None:
    with assert_restored(toy_model):
        table = detach(toy_model, arm(kind), sets[1], score=score)
    assert table["answer_probability"].tolist() == score(toy_model, sets[1])["answer_probability"].tolist()
    assert set(table["variant"]) == {REMOVED}


@pytest.mark.parametrize("kind", ["oracle", "noise"])
def test_weights_cannot_be_taken_off(kind: str, toy_model: Any, arm: Any, sets: Any, score: Any) -> None:
    intervention = arm(kind)
    with intervention.applied(toy_model) as changed:
        expected = score(changed, sets[1])["answer_probability"].tolist()
    table = detach(toy_model, intervention, sets[1], score=score)
    assert table["answer_probability"].tolist() == expected
    assert set(table["variant"]) == {NOT_REMOVABLE}
