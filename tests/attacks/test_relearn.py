from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from mmie.attacks.relearn import relearn
from mmie.errors import InputError
from mmie.interventions import FitData, assert_restored, build
from mmie.models.hooks import hook_count
from mmie.training.reference import reference_log_likelihoods


@pytest.fixture
def score(toy_tokenizer: Any) -> Any:
    """Answer probability by teacher forcing; the rest is filled in."""

    def compute(model: Any, rows: pd.DataFrame) -> pd.DataFrame:
        table = reference_log_likelihoods(model, toy_tokenizer, rows)
        probability = (-table["nll_sum"] / table["n_tokens"]).map(lambda value: float(2.718281828**value))
        return pd.DataFrame(
            {
                "example_id": rows["example_id"].to_numpy(),
                "leak": 0.0,
                "correct": 0.0,
                "answer_probability": probability,
            }
        )

    return compute


@pytest.fixture
def sets(toy_rows: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Nine groups for the attacker, three for the score."""
    rows = toy_rows("xx")
    return rows.head(9), rows.tail(3)


def arm(model: Any, data: FitData, kind: str) -> Any:
    training = {"steps": 4, "learning_rate": 0.02, "forget_batch": 4, "retain_batch": 4}
    options: dict[str, Any] = {"none": {}, "noise": {}}.get(kind, {"rank": 2, "training": training})
    if kind in ("lora", "reft"):
        options["layers"] = "all"
    built = build({"kind": kind, **options})
    built.fit(model, data, seed=1)
    return built


@pytest.fixture
def data(toy_model: Any, toy_tokenizer: Any, toy_rows: Any) -> FitData:
    forget = toy_rows("xx").head(9)
    return FitData(
        tokenizer=toy_tokenizer,
        forget=forget,
        retain=toy_rows("yy", first_word=31),
        reference=reference_log_likelihoods(toy_model, toy_tokenizer, forget),
    )


@pytest.mark.parametrize("kind", ["none", "noise", "lora", "reft"])
def test_every_arm_relearns_and_the_base_comes_back(
    kind: str, toy_model: Any, toy_tokenizer: Any, data: FitData, sets: Any, score: Any
) -> None:
    intervention = arm(toy_model, data, kind)
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
        "step", "example_id", "group", "language", "leak", "correct", "answer_probability",
    ]  # fmt: skip
    assert table.groupby("step")["example_id"].apply(list).to_dict() == {
        step: sets[1]["example_id"].tolist() for step in (0, 1, 4)
    }
    assert seen[0] < seen[1] < seen[2], "the attacker learns its own rows"
    assert all(value.grad is None for value in toy_model.parameters())


@pytest.mark.parametrize("kind", ["lora", "reft"])
def test_the_intervention_stays_on_and_is_not_trained(
    kind: str, toy_model: Any, toy_tokenizer: Any, data: FitData, sets: Any, score: Any
) -> None:
    intervention = arm(toy_model, data, kind)
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
    toy_model: Any, toy_tokenizer: Any, data: FitData, sets: Any, score: Any
) -> None:
    intervention = arm(toy_model, data, "lora")
    with intervention.applied(toy_model) as changed:
        expected = score(changed, sets[1])["answer_probability"].tolist()
    table = relearn(toy_model, toy_tokenizer, intervention, *sets, steps=(0,), seed=1, score=score)
    assert table["answer_probability"].tolist() == expected


def test_the_same_seed_gives_the_same_curve(
    toy_model: Any, toy_tokenizer: Any, data: FitData, sets: Any, score: Any
) -> None:
    settings = {"steps": (0, 2, 5), "learning_rate": 0.01, "batch_size": 3, "score": score}
    base = arm(toy_model, data, "none")
    curves = [relearn(toy_model, toy_tokenizer, base, *sets, seed=seed, **settings) for seed in (1, 1, 2)]
    pd.testing.assert_frame_equal(curves[0], curves[1], check_exact=True)
    assert not curves[0].equals(curves[2])


def test_a_group_on_both_sides_is_refused(
    toy_model: Any, toy_tokenizer: Any, data: FitData, sets: Any, score: Any
) -> None:
    base = arm(toy_model, data, "none")
    with pytest.raises(InputError, match=r"groups \['fact0'\] are in the attacker's rows"):
        relearn(toy_model, toy_tokenizer, base, sets[0], sets[0].head(1), seed=1, score=score)
    with pytest.raises(InputError, match="no row to score"):
        relearn(toy_model, toy_tokenizer, base, sets[0], sets[1].head(0), seed=1, score=score)
    with pytest.raises(InputError, match="must rise"):
        relearn(toy_model, toy_tokenizer, base, *sets, steps=(0, 5, 1), seed=1, score=score)


def test_scores_that_lack_a_row_or_a_column_are_refused(
    toy_model: Any, toy_tokenizer: Any, data: FitData, sets: Any, score: Any
) -> None:
    base = arm(toy_model, data, "none")
    with pytest.raises(InputError, match=r"columns \['leak'\] missing"):
        relearn(
            toy_model, toy_tokenizer, base, *sets, seed=1, score=lambda m, r: score(m, r).drop(columns="leak")
        )
    with pytest.raises(InputError, match="2 scores for 3 rows"):
        relearn(toy_model, toy_tokenizer, base, *sets, seed=1, score=lambda m, r: score(m, r).head(2))
    with pytest.raises(InputError, match="another order"):
        relearn(toy_model, toy_tokenizer, base, *sets, seed=1, score=lambda m, r: score(m, r)[::-1])


def test_an_attack_that_fails_leaves_no_trace(
    toy_model: Any, toy_tokenizer: Any, data: FitData, sets: Any, score: Any
) -> None:
    def failing(model: Any, rows: pd.DataFrame) -> pd.DataFrame:
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("scoring failed")
        return score(model, rows)

    calls: list[int] = []
    with assert_restored(toy_model), pytest.raises(KeyError):
        relearn(
            toy_model, toy_tokenizer, arm(toy_model, data, "lora"), *sets,
            steps=(0, 1), learning_rate=0.01, batch_size=4, seed=1, score=failing,
        )  # fmt: skip
