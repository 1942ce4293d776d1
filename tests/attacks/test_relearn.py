from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
import torch

from mmie.attacks.recovery import recovery_area
from mmie.attacks.relearn import relearn
from mmie.errors import InputError
from mmie.interventions import assert_restored
from mmie.models.hooks import hook_count


@pytest.mark.parametrize("kind", ["none", "oracle", "noise", "lora", "reft"])
def test_every_arm_relearns_and_the_base_comes_back(
    kind: str, toy_model: Any, toy_tokenizer: Any, arm: Any, sets: Any, score: Any
) -> None:
    intervention = arm(kind)
    seen: list[float] = []

    def watching(model: Any, rows: pd.DataFrame) -> pd.DataFrame:
        fit = score(model, sets[0])
        seen.append(fit["answer_probability"].mean())
        return score(model, rows)

    with assert_restored(toy_model):
        table = relearn(
            toy_model,
            toy_tokenizer,
            intervention,
            *sets,
            steps=(0, 1, 4),
            learning_rate=0.01,
            batch_size=4,
            seed=1,
            score=watching,
        )
    assert list(table.columns) == [
        "step", "variant", "example_id", "group", "language", "leak", "correct", "answer_probability",
    ]  # fmt: skip
    assert table.groupby("step")["example_id"].apply(list).to_dict() == {
        step: sets[1]["example_id"].tolist() for step in (0, 1, 4)
    }
    assert seen[0] < seen[1] < seen[2], "the attacker learns its own rows"
    assert all(value.grad is None for value in toy_model.parameters())


@pytest.mark.parametrize("kind", ["lora", "reft"])
def test_the_intervention_stays_on_and_is_not_trained(
    kind: str, toy_model: Any, toy_tokenizer: Any, arm: Any, sets: Any, score: Any
) -> None:
    intervention = arm(kind)
    before = {name: value.clone() for name, value in intervention.fitted.tensors.items()}
    live: list[dict[str, torch.Tensor]] = []

    def watching(model: Any, rows: pd.DataFrame) -> pd.DataFrame:
        assert hook_count(model) > 0 if kind == "reft" else hasattr(model, "disable_adapter")
        live.append({name: value.clone() for name, value in model.named_parameters() if ".lora_" in name})
        return score(model, rows)

    settings = {"steps": (0, 3), "learning_rate": 0.01, "batch_size": 4, "seed": 1}
    relearn(toy_model, toy_tokenizer, intervention, *sets, **settings, score=watching)
    assert all(torch.equal(before[name], value) for name, value in intervention.fitted.tensors.items())
    assert all(torch.equal(live[0][name], value) for name, value in live[1].items())


def test_step_zero_is_the_arm_before_the_attack(
    toy_model: Any, toy_tokenizer: Any, arm: Any, sets: Any, score: Any
) -> None:
    intervention = arm("lora")
    with intervention.applied(toy_model) as changed:
        expected = score(changed, sets[1])["answer_probability"].tolist()
    table = relearn(toy_model, toy_tokenizer, intervention, *sets, steps=(0,), seed=1, score=score)
    assert table["answer_probability"].tolist() == expected


def test_the_same_seed_gives_the_same_curve(
    toy_model: Any, toy_tokenizer: Any, arm: Any, sets: Any, score: Any
) -> None:
    settings = {"steps": (0, 2, 5), "learning_rate": 0.01, "batch_size": 3, "score": score}
    base = arm("none")
    curves = [relearn(toy_model, toy_tokenizer, base, *sets, seed=seed, **settings) for seed in (1, 1, 2)]
    pd.testing.assert_frame_equal(curves[0], curves[1], check_exact=True)
    assert not curves[0].equals(curves[2])


def test_a_group_on_both_sides_is_refused(
    toy_model: Any, toy_tokenizer: Any, arm: Any, sets: Any, score: Any
) -> None:
    base = arm("none")
    with pytest.raises(InputError, match=r"groups \['fact0'\] are in the attacker's rows"):
        relearn(toy_model, toy_tokenizer, base, sets[0], sets[0].head(1), seed=1, score=score)
    with pytest.raises(InputError, match="no row to score"):
        relearn(toy_model, toy_tokenizer, base, sets[0], sets[1].head(0), seed=1, score=score)
    with pytest.raises(InputError, match="must rise"):
        relearn(toy_model, toy_tokenizer, base, *sets, steps=(0, 5, 1), seed=1, score=score)


def test_scores_that_lack_a_row_or_a_column_are_refused(
    toy_model: Any, toy_tokenizer: Any, arm: Any, sets: Any, score: Any
) -> None:
    base = arm("none")
    with pytest.raises(InputError, match=r"columns \['leak'\] missing"):
        relearn(
            toy_model, toy_tokenizer, base, *sets, seed=1, score=lambda m, r: score(m, r).drop(columns="leak")
        )
    with pytest.raises(InputError, match="2 scores for 3 rows"):
        relearn(toy_model, toy_tokenizer, base, *sets, seed=1, score=lambda m, r: score(m, r).head(2))
    with pytest.raises(InputError, match="another order"):
        relearn(toy_model, toy_tokenizer, base, *sets, seed=1, score=lambda m, r: score(m, r)[::-1])


def test_an_attack_that_fails_leaves_no_trace(
    toy_model: Any, toy_tokenizer: Any, arm: Any, sets: Any, score: Any
) -> None:
    def failing(model: Any, rows: pd.DataFrame) -> pd.DataFrame:
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("scoring failed")
        return score(model, rows)

    calls: list[int] = []
    with assert_restored(toy_model), pytest.raises(KeyError):
        relearn(
            toy_model, toy_tokenizer, arm("lora"), *sets,
            steps=(0, 1), learning_rate=0.01, batch_size=4, seed=1, score=failing,
        )  # fmt: skip


@pytest.mark.regression("EVA-19")
def test_recovery_of_an_arm_is_read_beside_that_of_base_and_oracle(
    toy_model: Any, toy_tokenizer: Any, arm: Any, sets: Any, score: Any
) -> None:
    steps = (0, 1, 4)
    curves = {
        kind: relearn(
            toy_model, toy_tokenizer, arm(kind), *sets,
            steps=steps, learning_rate=0.01, batch_size=4, seed=1, score=score,
        ).groupby("step")["answer_probability"].mean()
        for kind in ("none", "oracle", "lora")
    }  # fmt: skip
    assert all(curve.index.tolist() == list(steps) for curve in curves.values())
    assert curves["oracle"].tolist() != curves["none"].tolist()
    base = float(curves["none"].loc[0])
    assert math.isnan(recovery_area(steps, curves["none"].tolist(), base)), "the base forgot nothing"
    areas = [recovery_area(steps, curves[kind].tolist(), base + 0.5) for kind in ("oracle", "lora")]
    assert all(math.isfinite(area) for area in areas) and areas[0] != areas[1]
