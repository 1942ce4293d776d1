"""The calibration arms must get the verdict that is known beforehand; nothing else may PROCEED."""

from __future__ import annotations

import pandas as pd
import pytest

from mmie.statistics.aggregate import aggregate
from mmie.statistics.options import Options

FAST = Options(experiment="planted", n_resamples=1000)


def arm(summary, name: str) -> dict:
    return summary.gates["arms"][name]


@pytest.mark.regression("STA-02")
def test_a_model_that_nothing_was_done_to_stops_for_no_effect(summary) -> None:
    assert arm(summary, "base")["decision"] == "STOP"
    assert arm(summary, "base")["codes"] == ["no_effect"]


@pytest.mark.regression("STA-02")
def test_a_model_that_never_saw_the_language_proceeds(summary) -> None:
    assert arm(summary, "oracle")["decision"] == "PROCEED"
    assert arm(summary, "oracle")["reasons"] == []


@pytest.mark.regression("STA-02")
def test_a_babbling_model_stops_on_utility_although_it_forgot(summary) -> None:
    broken = arm(summary, "broken")
    assert broken["gates"]["forget"]["passed"]
    assert broken["decision"] == "STOP"
    assert {"collapsed", "utility_loss"} <= set(broken["codes"])
    assert "no_effect" not in broken["codes"]


def test_a_random_control_stops_for_no_effect(summary) -> None:
    assert arm(summary, "sae-random")["codes"] == ["no_effect"]


def test_arms_under_study_get_what_they_earned(summary) -> None:
    assert arm(summary, "good")["decision"] == "PROCEED"
    assert set(arm(summary, "harmful")["codes"]) == {"utility_loss", "neighbour_loss"}


def test_the_base_differs_from_itself_by_exactly_nothing(summary) -> None:
    own = summary.tests[summary.tests["arm"] == "base"]
    assert (own["largest_difference"] == 0).all()
    assert (own.loc[own["test"] == "sign_flip", "p"] == 1).all()
    assert summary.gates["calibration"]["checks"]["base"]["held"]


@pytest.mark.regression("STA-02")
def test_a_wrong_calibration_verdict_lets_no_arm_proceed(experiment, gates, roles) -> None:
    gates["utility"]["threshold"] = -0.99
    gates["neighbours"]["threshold"] = -0.99
    gates["collapse"]["threshold"] = 0.99
    gates["bits"]["required"] = False
    result = aggregate(*experiment, roles, gates, FAST).gates
    assert not result["calibration"]["calibrated"]
    assert not result["calibration"]["checks"]["broken"]["held"]
    assert result["arms"]["good"]["decision"] == "STOP"
    assert result["arms"]["good"]["codes"] == ["uncalibrated"]
    assert result["arms"]["good"]["gates"]["forget"]["passed"]
    assert result["arms"]["oracle"]["decision"] == "PROCEED"


@pytest.mark.parametrize("missing", ["oracle", "broken"])
def test_a_run_without_a_calibration_arm_is_uncalibrated(experiment, gates, roles, missing: str) -> None:
    evaluation, attacks = (table[table["arm"] != missing] for table in experiment)
    result = aggregate(evaluation, attacks, roles, gates, FAST).gates
    assert result["arms"]["good"]["codes"] == ["uncalibrated"]
    assert "it was not run" in result["arms"]["good"]["reasons"][0]


@pytest.mark.regression("STA-15")
def test_a_gate_that_ends_alike_for_base_oracle_and_broken_is_refused(experiment, gates, roles) -> None:
    gates["confusion"]["threshold"] = -0.9999
    result = aggregate(*experiment, roles, gates, FAST).gates
    assert result["calibration"]["not_separating"] == ["confusion"]
    assert result["arms"]["good"]["codes"] == ["uncalibrated"]


@pytest.mark.regression("STA-10")
def test_a_trained_arm_with_too_few_seeds_cannot_proceed(experiment, gates, roles) -> None:
    evaluation, attacks = (table[(table["arm"] != "good") | (table["seed"] == 0)] for table in experiment)
    options = Options(experiment="planted", n_resamples=1000, trained_arms=("good",))
    result = aggregate(evaluation, attacks, roles, gates, options).gates["arms"]["good"]
    assert result["codes"] == ["underpowered"]
    assert "1 seed; a claim about a trained arm needs 3" in result["reasons"][0]


def test_too_few_clusters_stop_every_arm_before_anything_else(plant, gates, roles) -> None:
    evaluation, attacks = plant(clusters=5, items=10)
    result = aggregate(evaluation, attacks, roles, gates, FAST).gates
    assert all("underpowered" in entry["codes"] for entry in result["arms"].values())
    assert "smallest possible p is 0.062" in " ".join(result["arms"]["oracle"]["reasons"])


@pytest.mark.regression("EVA-06")
def test_destroying_urdu_stops_although_nothing_leaks(experiment, gates, roles) -> None:
    evaluation, attacks = (table.copy() for table in experiment)
    urdu = (evaluation["arm"] == "good") & (evaluation["language"] == "ur")
    evaluation.loc[urdu, ["correct", "leak"]] = 0.0
    result = aggregate(evaluation, attacks, roles, gates, FAST).gates["arms"]["good"]
    assert result["codes"] == ["neighbour_loss"]
    assert result["gates"]["neighbours"]["reason"].startswith("Urdu accuracy is 0.00 against 0.")


@pytest.mark.regression("EVA-02")
def test_empty_answers_trip_the_collapse_gate(experiment, gates, roles) -> None:
    evaluation, attacks = (table.copy() for table in experiment)
    silent = evaluation["arm"] == "good"
    evaluation.loc[silent, ["correct", "leak"]] = 0.0
    evaluation.loc[silent, "gibberish"] = 1.0
    evaluation.loc[silent, "answer_state"] = "empty_gibberish"
    result = aggregate(evaluation, attacks, roles, gates, FAST)
    assert {"collapsed", "utility_loss"} <= set(result.gates["arms"]["good"]["codes"])
    states = result.extras["answer_states"]
    own = states[(states["arm"] == "good") & (states["language"] == "hi")]
    assert (own.loc[own["state"] == "empty_gibberish", "rate"] == 1).all()


def test_no_null_arm_ever_proceeds(plant, planted_arms, gates, roles) -> None:
    null = {name: planted_arms[name] for name in ("base", "oracle", "oracle_reference", "broken")}
    changed = type(planted_arms["base"])
    null |= {f"null{i}": changed(noise=0.3, seeds=3) for i in range(10)}
    proceeded: list[str] = []
    stopped_for_effect = 0
    for seed in range(3):
        evaluation, attacks = plant(null, clusters=12, items=4, seed=seed)
        found = aggregate(evaluation, attacks, roles, gates, FAST).gates["arms"]
        own = [found[name] for name in found if name.startswith("null")]
        proceeded += [entry["decision"] for entry in own if entry["decision"] == "PROCEED"]
        stopped_for_effect += sum("no_effect" in entry["codes"] for entry in own)
    assert not proceeded
    assert stopped_for_effect == 30


@pytest.mark.parametrize("seed", range(4))
def test_verdicts_hold_over_bootstrap_repeats_of_the_items(experiment, gates, roles, seed: int) -> None:
    evaluation, attacks = _redrawn(experiment, seed)
    found = aggregate(evaluation, attacks, roles, gates, FAST).gates["arms"]
    assert found["base"]["codes"] == ["no_effect"]
    assert found["oracle"]["gates"]["forget"]["passed"]
    assert {"collapsed", "utility_loss"} <= set(found["broken"]["codes"])
    assert found["sae-random"]["decision"] == "STOP"


def _redrawn(experiment: tuple[pd.DataFrame, pd.DataFrame], seed: int) -> list[pd.DataFrame]:
    """The experiment on clusters drawn with replacement, each copy under a name of its own."""
    groups = pd.Series(sorted(experiment[0]["group"].unique()))
    drawn = groups.groupby(groups.str[:3]).sample(frac=1.0, replace=True, random_state=seed)
    copies = pd.DataFrame({"group": drawn.to_numpy(), "copy": range(len(drawn))})
    tables = []
    for table in experiment:
        merged = table.merge(copies, on="group", validate="many_to_many")
        mark = merged.pop("copy").astype(str)
        tables.append(
            merged.assign(group=merged["group"] + "#" + mark,
                          example_id=merged["example_id"] + "#" + mark)
        )  # fmt: skip
    return tables
