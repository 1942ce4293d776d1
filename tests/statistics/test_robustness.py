from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from mmie.statistics.aggregate import aggregate
from mmie.statistics.cells import attack_cells, build_cells
from mmie.statistics.options import Draws, Options
from mmie.statistics.robustness import robustness

FAST = Options(experiment="planted", n_resamples=1000, attacks=("relearn", "int8", "detach"))
STEPS = (0, 10, 20, 40)


def curve(arm: str, *values: float, steps: tuple[int, ...] = STEPS, attack: str = "relearn") -> pd.DataFrame:
    """An attack on 10 facts whose mean score after each step is as given."""
    return pd.concat([
        pd.DataFrame({
            "attack": attack, "arm": arm, "seed": 0, "step": step, "language": "hi",
            "example_id": [f"i{i}" for i in range(10)], "group": [f"g{i}" for i in range(10)],
            "leak": [1.0] * round(10 * value) + [0.0] * (10 - round(10 * value)),
        })
        for step, value in zip(steps, values, strict=True)
    ])  # fmt: skip


def table(*curves: pd.DataFrame, options: Options = FAST, cells: dict | None = None) -> pd.DataFrame:
    rows = pd.concat(curves, ignore_index=True)
    found = robustness(rows, attack_cells(rows), cells or {}, options, Draws(options))
    return found[found["metric"] == "leak"].set_index(["attack", "arm"])


@pytest.mark.regression("EVA-19")
def test_the_area_of_a_known_curve_over_the_logarithm_of_steps() -> None:
    # r = 0, .25, .5, .625 of a base at .9; trapezoids over log2(1 + s)
    found = table(curve("arm", 0.1, 0.3, 0.5, 0.6), curve("base", 0.9, 0.9, 0.9, 0.9))
    assert found.loc[("relearn", "arm"), "area"] == pytest.approx(0.247353, abs=5e-7)
    assert found.loc[("relearn", "arm"), "recovery"] == pytest.approx(0.625)
    assert found.loc[("relearn", "arm"), "before"] == pytest.approx(0.1)
    assert (
        found.loc[("relearn", "arm"), "recovery_low"] < 0.625 < found.loc[("relearn", "arm"), "recovery_high"]
    )


@pytest.mark.regression("EVA-19")
def test_base_and_oracle_stand_beside_every_arm_and_every_attack(summary) -> None:
    found = summary.extras["robustness"]
    arms = set(summary.metrics["arm"])
    assert {"base", "oracle", "oracle_reference"} <= arms
    for _, rows in found.groupby(["attack", "language", "metric"]):
        assert set(rows["arm"]) == arms
    curves = summary.extras["attack_curves"]
    assert all(set(rows["arm"]) == arms for _, rows in curves.groupby(["attack", "language"]))


def test_an_arm_that_forgot_nothing_has_nothing_to_recover() -> None:
    found = table(curve("arm", 0.9, 0.9, 0.9, 0.9), curve("base", 0.9, 0.9, 0.9, 0.9))
    assert math.isnan(found.loc[("relearn", "arm"), "recovery"])
    assert "nothing to recover" in found.loc[("relearn", "arm"), "recovery_reason"]


def test_transfer_compares_with_base_and_oracle_under_the_same_attack() -> None:
    found = table(
        curve("arm", 0.1, 0.3, 0.5, 0.6), curve("base", 0.9, 0.9, 0.9, 1.0),
        curve("oracle_reference", 0.0, 0.0, 0.1, 0.2),
    )  # fmt: skip
    # 1 - (0.6 - 0.2) / (1.0 - 0.2)
    assert found.loc[("relearn", "arm"), "transfer"] == pytest.approx(0.5)


def test_an_attack_of_one_step_is_compared_with_the_evaluation_of_its_items() -> None:
    one = [curve(arm, value, steps=(0,), attack="int8") for arm, value in (("arm", 0.6), ("base", 0.9))]
    evaluated = pd.concat([
        curve(arm, value, steps=(0,)).assign(split="test", kind="direct")
        for arm, value in (("arm", 0.1), ("base", 0.9))
    ], ignore_index=True)  # fmt: skip
    found = table(*one, cells=build_cells(evaluated))
    assert found.loc[("int8", "arm"), "recovery"] == pytest.approx(0.625)
    assert "no curve from step 0" in found.loc[("int8", "arm"), "area_reason"]
    alone = table(*one)
    assert "not all evaluated without the attack" in alone.loc[("int8", "arm"), "recovery_reason"]


@pytest.mark.regression("EVA-22")
def test_an_attack_that_was_not_run_is_a_row_and_no_gap(experiment, gates, roles) -> None:
    found = aggregate(*experiment, roles, gates, FAST).extras["robustness"]
    assert set(found["attack"]) == {"relearn", "int8", "detach"}
    missing = found[found["attack"] == "int8"]
    assert (missing["transfer_reason"] == "the attack was not run").all()
    assert set(missing["arm"]) == set(experiment[0]["arm"])
    assert not found.loc[found["attack"] == "detach", "gating"].any()


@pytest.fixture
def several(experiment, gates) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """The planted experiment under three attacks, one of which takes the intervention off."""
    evaluation, relearn = experiment
    last = relearn[relearn["step"] == 50].assign(step=0)
    detached = last.assign(attack="detach", leak=(~last["arm"].str.startswith("oracle")).astype(float))
    gates["relearning"]["cell"] = "attacks"
    attacks = pd.concat([relearn, last.assign(attack="int8"), detached], ignore_index=True)
    return evaluation, attacks, gates


def test_a_gate_on_attacks_has_one_test_an_attack_and_language(several, roles) -> None:
    summary = aggregate(*several[:2], roles, several[2], FAST)
    own = summary.tests.query("gate == 'relearning' and arm == 'good'")
    assert sorted(zip(own["cell"], own["language"], strict=True)) == [
        ("int8", "hi"), ("int8", "hi_Latn"), ("relearn", "hi"), ("relearn", "hi_Latn"),
    ]  # fmt: skip
    assert (own["family"] == "robustness").all() and np.isfinite(own["q"]).all()
    assert summary.gates["arms"]["good"]["decision"] == "PROCEED"
    assert summary.gates["arms"]["good"]["gates"]["relearning"]["n_tests"] == 4


def test_taking_the_intervention_off_restores_the_base_and_gates_nothing(several, roles) -> None:
    summary = aggregate(*several[:2], roles, several[2], FAST)
    assert "detach" not in set(summary.tests["cell"])
    found = summary.extras["robustness"].set_index(["attack", "arm", "language", "metric"])
    assert found.loc[("detach", "good", "hi", "leak"), "transfer"] == pytest.approx(0.0)
    assert found.loc[("detach", "good", "hi", "leak"), "recovery"] > 0.9


def test_one_attack_that_brings_it_back_stops_the_arm_and_is_named(several, roles) -> None:
    evaluation, attacks, gates = several
    back = (attacks["arm"] == "good") & (attacks["attack"] == "int8") & (attacks["language"] == "hi_Latn")
    attacks.loc[back, "leak"] = 1.0
    entry = aggregate(evaluation, attacks, roles, gates, FAST).gates["arms"]["good"]
    assert entry["codes"] == ["not_robust"]
    assert "Hindi (Latin script) leak rate after the attack int8 is 1.00" in entry["reasons"][0]


@pytest.mark.regression("STA-16")
def test_a_configured_attack_without_rows_is_not_measured(experiment, gates, roles) -> None:
    gates["relearning"]["cell"] = "attacks"
    entry = aggregate(*experiment, roles, gates, FAST).gates["arms"]["oracle"]
    assert entry["codes"] == ["not_measured"]
    assert "after the attack int8 is not measured: nothing was evaluated there" in entry["reasons"][0]


def test_a_gate_on_attacks_where_none_is_configured_is_not_measured(experiment, gates, roles) -> None:
    gates["relearning"]["cell"] = "attacks"
    options = Options(experiment="planted", n_resamples=1000)
    entry = aggregate(*experiment, roles, gates, options).gates["arms"]["oracle"]
    assert entry["codes"] == ["not_measured"]
    assert "no attack is configured" in entry["reasons"][0]
