from __future__ import annotations

import numpy as np
import pytest

from mmie.statistics.aggregate import aggregate
from mmie.statistics.options import Options

FAST = Options(experiment="planted", n_resamples=1000)


@pytest.mark.regression("STA-14")
def test_adding_a_control_changes_no_other_arm(experiment, summary, gates, roles, options) -> None:
    evaluation, attacks = (table[table["arm"] != "sae-random"] for table in experiment)
    without = aggregate(evaluation, attacks, roles, gates, options).gates["arms"]
    for name, entry in without.items():
        assert entry == summary.gates["arms"][name], name


def test_arms_under_study_share_a_family_and_calibration_arms_have_copies(summary) -> None:
    families = summary.tests.groupby("family")["arm"].unique()
    assert set(families["efficacy"]) == {"good", "harmful"}
    assert set(families["efficacy:oracle"]) == {"oracle"}
    counts = summary.extras["families"].set_index("family")
    # forget 1, scripts 1, mixed 2 cells, for two arms
    assert counts.loc["efficacy", "declared"] == 8
    assert counts.loc["efficacy:base", "declared"] == 4


@pytest.mark.regression("STA-04")
def test_a_threshold_comes_from_the_table_alone_and_flips_the_verdict(experiment, gates, roles) -> None:
    gates["forget"]["threshold"] = 0.99
    entry = aggregate(*experiment, roles, gates, FAST).gates["arms"]["good"]
    assert entry["gates"]["forget"]["threshold"] == 0.99
    assert "below_threshold" in entry["codes"]


@pytest.mark.regression("STA-06")
def test_one_level_rules_intervals_and_rejections(experiment, gates, roles) -> None:
    options = Options(experiment="planted", n_resamples=1000, alpha=0.2)
    result = aggregate(*experiment, roles, gates, options)
    assert result.gates["options"]["alpha"] == 0.2
    tests = result.tests
    assert (tests["rejected"] == (tests["q"] <= 0.2)).all()
    effects = tests["test"] == "sign_flip"
    assert tests.loc[effects, "ci_level"].to_numpy() == pytest.approx(0.8)
    assert tests.loc[~effects, "ci_level"].to_numpy() == pytest.approx(0.6)


@pytest.mark.regression("STA-16", "STA-05")
def test_a_score_that_was_not_computed_is_not_a_pass(experiment, gates, roles) -> None:
    evaluation, attacks = experiment
    entry = aggregate(
        evaluation.drop(columns="bits_per_byte"), attacks, roles, gates, FAST
    ).gates["arms"]["oracle"]  # fmt: skip
    assert entry["decision"] == "STOP" and entry["codes"] == ["not_measured"]
    assert "the score was not computed" in entry["reasons"][0]
    assert not entry["gates"]["bits"]["passed"]
    assert np.isnan(entry["gates"]["bits"]["q"])


@pytest.mark.regression("STA-16")
def test_without_attacks_robustness_is_not_measured(experiment, gates, roles) -> None:
    entry = aggregate(experiment[0], None, roles, gates, FAST).gates["arms"]["oracle"]
    assert entry["codes"] == ["not_measured"]
    assert entry["gates"]["relearning"]["status"] == "not_measured"


def test_a_language_that_was_not_evaluated_is_not_a_pass(experiment, gates, roles) -> None:
    evaluation, attacks = experiment
    rows = evaluation[evaluation["language"] != "pa"]
    entry = aggregate(rows, attacks, roles, gates, FAST).gates["arms"]["oracle"]
    assert entry["codes"] == ["not_measured"]
    assert "Punjabi" in entry["gates"]["neighbours"]["reason"]


def test_few_missing_scores_are_dropped_in_all_arms_and_counted(experiment, gates, roles) -> None:
    evaluation, attacks = experiment[0].copy(), experiment[1]
    cell = (evaluation["language"] == "en") & (evaluation["split"] == "test")
    chosen = sorted(evaluation.loc[cell, "example_id"].unique())[:4]
    holes = cell & (evaluation["arm"] == "harmful") & evaluation["example_id"].isin(chosen)
    evaluation.loc[holes, "correct"] = np.nan
    tests = aggregate(evaluation, attacks, roles, gates, FAST).tests
    utility = tests[(tests["gate"] == "utility") & (tests["language"] == "en")].set_index("arm")
    assert utility.loc["good", "n_dropped"] == utility.loc["harmful", "n_dropped"] == 4
    assert utility.loc["oracle", "n_dropped"] == 0  # a calibration arm stands on its own
    assert utility.loc["good", "status"] == "passed"


def test_many_missing_scores_are_not_measured(experiment, gates, roles) -> None:
    evaluation, attacks = experiment[0].copy(), experiment[1]
    holes = (evaluation["arm"] == "good") & (evaluation["group"] < "test004")
    evaluation.loc[holes & (evaluation["language"] == "en"), "correct"] = np.nan
    entry = aggregate(evaluation, attacks, roles, gates, FAST).gates["arms"]["good"]
    assert entry["gates"]["utility"]["status"] == "not_measured"
    assert "24 of 180 items have no score" in entry["gates"]["utility"]["reason"]


def test_the_worst_cell_speaks_for_a_gate(summary) -> None:
    shown = summary.gates["arms"]["harmful"]["gates"]["utility"]
    cells = summary.tests.query("arm == 'harmful' and gate == 'utility'")
    assert shown["estimate"] == cells["estimate"].min()
    assert shown["n_tests"] == 2 and "(the worst of 2 tests)." in shown["reason"]


def test_the_worst_seed_speaks_for_collapse(experiment, gates, roles) -> None:
    evaluation, attacks = experiment[0].copy(), experiment[1]
    one = (evaluation["arm"] == "good") & (evaluation["seed"] == 2)
    babbling = one & evaluation["group"].str.endswith(("3", "7"))
    evaluation.loc[babbling & (evaluation["language"] == "bn"), "gibberish"] = 1.0
    entry = aggregate(evaluation, attacks, roles, gates, FAST).gates["arms"]["good"]
    # 6 of 30 clusters in one of three seeds: 0.2 in that seed, below 0.07 on average
    assert entry["gates"]["collapse"]["estimate"] == pytest.approx(0.2)
    assert entry["codes"] == ["collapsed"]
    assert "in its worst seed (2)" in entry["gates"]["collapse"]["reason"]


def test_a_gate_for_which_no_language_is_configured_does_not_apply(experiment, gates, roles) -> None:
    keep = [table[table["language"] != "hi_Latn"] for table in experiment]
    own = {**roles, "forget": ["hi"], "forget_other_scripts": []}
    entry = aggregate(*keep, own, gates, FAST).gates["arms"]["oracle"]
    assert entry["decision"] == "PROCEED"
    assert "names no language" in entry["not_applicable"]["scripts"]
    assert entry["not_applicable"]["membership"] == "no membership attack in this experiment"
    assert "scripts" not in entry["gates"]


def test_without_an_oracle_reference_transfer_takes_zero_in_its_place(experiment, gates, roles) -> None:
    keep = [table[table["arm"] != "oracle_reference"] for table in experiment]
    entry = aggregate(*keep, roles, gates, FAST).gates["arms"]["good"]["gates"]["forget"]
    assert entry["passed"] and "no oracle, taken as 0" in entry["reason"]


@pytest.mark.parametrize(("distance", "passed"), [(0.4, True), (0.01, False)])
def test_strict_mode_tests_against_the_threshold(
    experiment, summary, gates, roles, distance: float, passed: bool
) -> None:
    estimate = summary.gates["arms"]["good"]["gates"]["forget"]["estimate"]
    gates["forget"]["threshold"] = estimate - distance
    options = Options(experiment="planted", n_resamples=1000, strict=True)
    entry = aggregate(*experiment, roles, gates, options).gates["arms"]["good"]
    assert entry["gates"]["forget"]["passed"] == passed
    assert summary.gates["arms"]["good"]["gates"]["forget"]["q"] < 0.001


def test_two_sided_equivalence_also_stops_a_gain(experiment, gates, roles) -> None:
    gates["utility"] |= {"test": "tost", "direction": "within", "threshold": 0.05}
    evaluation, attacks = experiment[0].copy(), experiment[1]
    table = evaluation["language"].isin(roles["retain"]) & (evaluation["split"] == "test")
    evaluation.loc[table & (evaluation["arm"] == "base"), "correct"] = 0.0
    entry = aggregate(evaluation, attacks, roles, gates, FAST).gates["arms"]["good"]
    assert not entry["gates"]["utility"]["passed"]
    assert entry["gates"]["utility"]["estimate"] > 0.9


def test_a_required_gate_stops_and_a_described_one_does_not(experiment, gates, roles) -> None:
    for name in ("utility", "bits", "neighbours"):
        gates[name]["required"] = False
    entry = aggregate(*experiment, roles, gates, FAST).gates["arms"]["harmful"]
    assert not entry["gates"]["utility"]["passed"]
    assert "utility_loss" not in entry["codes"]
