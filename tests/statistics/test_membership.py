from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from mmie.errors import InputError
from mmie.statistics.aggregate import aggregate
from mmie.statistics.cells import build_cells
from mmie.statistics.gate_table import read_gates
from mmie.statistics.membership import membership_table, priv_leak
from mmie.statistics.options import Draws, Options

FAST = Options(experiment="planted", n_resamples=1000)
SCORES = ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus")
# How much more like members the forget facts look, in standard deviations.
SHIFTS = {"base": 3.0, "oracle": 0.0, "oracle_reference": 0.0, "broken": 0.0, "good": 0.1, "harmful": -3.0,
          "sae-random": 3.0}  # fmt: skip


def with_membership(evaluation: pd.DataFrame, shifts: dict[str, float] = SHIFTS) -> pd.DataFrame:
    """The planted experiment with holdout facts and attack scores that share an item's own ease."""
    test = evaluation[(evaluation["split"] == "test") & (evaluation["kind"] == "direct")]
    holdout = test[test["language"].isin(["hi", "hi_Latn"])].copy()
    for name in ("group", "example_id"):
        holdout[name] = holdout[name].str.replace("test", "holdout")
    holdout["split"] = "holdout"
    table = pd.concat([evaluation, holdout], ignore_index=True)
    rng = np.random.default_rng(3)
    ease = {item: rng.normal() for item in sorted(table["example_id"].unique())}
    member = (table["split"] != "holdout") * table["arm"].map(shifts)
    for score in SCORES:
        noise = np.where(table["arm"] == "base", 0.0, 0.05 * rng.normal(size=len(table)))
        table[score] = table["example_id"].map(ease) + member + noise
    return table


def gap_gate(**changes: object) -> dict:
    return {
        "metric": "membership", "languages": "forget", "statistic": "auc_gap", "direction": "within",
        "threshold": 0.05, "test": "tost", "family": "membership", "stop_reason": "membership", **changes,
    }  # fmt: skip


@pytest.fixture(scope="module")
def scored(experiment) -> pd.DataFrame:
    return with_membership(experiment[0])


def test_an_arm_must_come_as_close_to_the_oracle_as_the_margin(scored, experiment, gates, roles) -> None:
    gates["membership"] = gap_gate()
    found = aggregate(scored, experiment[1], roles, gates, FAST).gates
    status = {arm: entry["gates"]["membership"]["status"] for arm, entry in found["arms"].items()}
    assert status == {
        "base": "failed", "broken": "passed", "good": "passed", "harmful": "failed", "oracle": "passed",
        "sae-random": "failed",
    }  # fmt: skip
    assert found["calibration"]["calibrated"] and found["arms"]["good"]["decision"] == "PROCEED"
    assert found["arms"]["good"]["gates"]["membership"]["n_tests"] == 8  # four attacks, two scripts
    base, harmful = (found["arms"][arm]["gates"]["membership"]["reason"] for arm in ("base", "harmful"))
    assert "leaves the margin of 0.050; the model still recognises what it was trained on" in base
    assert "over-unlearning singles out" in harmful
    assert "for the oracle: a gap of +0.4" in base


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        (lambda table: table["split"] != "holdout", "no holdout fact was evaluated"),
        (lambda table: table["arm"] != "oracle_reference", "the oracle was not evaluated"),
    ],
)
def test_without_non_members_or_an_oracle_membership_is_not_measured(
    scored, experiment, gates, roles, missing, reason
) -> None:
    gates["membership"] = gap_gate(metric="mia_loss")
    entry = aggregate(scored[missing(scored)], experiment[1], roles, gates, FAST).gates["arms"]["good"]
    assert entry["gates"]["membership"]["status"] == "not_measured"
    assert reason in entry["gates"]["membership"]["reason"]
    assert "not_measured" in entry["codes"]


def test_the_p_value_is_the_level_at_which_the_interval_fits_inside_the_margin(
    scored, experiment, gates, roles
) -> None:
    gates["membership"] = gap_gate(threshold=0.02)
    tests = aggregate(scored, experiment[1], roles, gates, FAST).tests
    own = tests[(tests["gate"] == "membership") & tests["arm"].isin(["good", "oracle"])]
    inside = (own["ci_low"] > -0.02) & (own["ci_high"] < 0.02)
    assert (inside == (own["p"] <= 0.05)).all()
    assert own["p"].between(1e-4, 0.9999).any()


def test_margins_of_an_area_are_never_widened_to_what_was_learnt(scored, experiment, gates, roles) -> None:
    gates["membership"] = gap_gate()
    assert "membership" not in aggregate(scored, experiment[1], roles, gates, FAST).gates["margins"]


def test_attack_scores_enter_areas_and_no_means(scored, experiment, gates, roles) -> None:
    summary = aggregate(scored, experiment[1], roles, gates, FAST)
    metrics = summary.metrics
    assert not metrics["metric"].str.startswith("mia_").any()
    areas = metrics[metrics["metric"] == "auc_loss"].set_index(["arm", "language"])["estimate"]
    assert areas["base", "hi"] > 0.95 and abs(areas["oracle", "hi"] - 0.5) < 0.1
    # Kept languages have no holdout here: the row is there and says so.
    empty = metrics[(metrics["metric"] == "auc_loss") & (metrics["language"] == "en")]
    assert empty["estimate"].isna().all() and (empty["reason"] == "no holdout fact was evaluated").all()


def test_over_unlearning_is_flagged_and_priv_leak_stands_beside_min_k_alone(scored) -> None:
    options = Options(experiment="planted", n_resamples=1000)
    table = membership_table(build_cells(scored), options, Draws(options))
    hindi = table[table["language"] == "hi"].set_index(["arm", "metric"])
    assert hindi.loc[("harmful", "mia_loss"), "over_unlearned"]
    assert not hindi.loc[("oracle", "mia_loss"), "over_unlearned"]
    assert hindi.loc[("base", "mia_min_k"), "priv_leak"] < -90
    assert hindi.loc[("oracle_reference", "mia_min_k"), "priv_leak"] == 0.0
    assert math.isnan(hindi.loc[("base", "mia_loss"), "priv_leak"])
    assert hindi.loc[("oracle_reference", "mia_zlib"), "gap"] == 0.0


@pytest.mark.parametrize(("auc", "oracle", "leak"), [(0.4, 0.4, 0.0), (1.0, 0.5, -100.0), (0.0, 0.5, 100.0)])
def test_priv_leak_of_known_areas(auc: float, oracle: float, leak: float) -> None:
    assert priv_leak(auc, oracle) == pytest.approx(leak)


def test_priv_leak_does_not_explode() -> None:
    assert math.isnan(priv_leak(0.00002, 0.981186))


def test_an_area_can_only_be_tested_for_equivalence() -> None:
    effect = {
        "metric": "leak", "languages": "forget", "statistic": "transfer", "direction": "at_least",
        "threshold": 0.5, "test": "sign_flip", "family": "efficacy",
    }  # fmt: skip
    with pytest.raises(InputError, match="Use tost"):
        read_gates({"forget": effect, "membership": gap_gate(test="non_inferiority", direction="at_most")})


def test_intervals_of_a_gap_hold_its_estimate(scored) -> None:
    options = Options(experiment="planted", n_resamples=1000)
    table = membership_table(build_cells(scored), options, Draws(options)).dropna(subset=["gap"])
    assert (table["gap_low"] <= table["gap"]).all() and (table["gap"] <= table["gap_high"]).all()
    assert len(table) == 7 * 2 * 4


def test_the_reference_attack_takes_out_how_hard_an_item_is(scored) -> None:
    # Losses of 10 and 1 nat by item; the base saw the forget facts and has half a nat less on each.
    hard = scored["example_id"].map(
        {item: 9.0 * (n % 2) for n, item in enumerate(scored["example_id"].unique())}
    )
    seen = (scored["split"] != "holdout") & scored["arm"].isin(["base", "sae-random"])
    table = scored.assign(nll_sum=1.0 + hard - 0.5 * seen)
    cells = build_cells(table)
    found = membership_table(cells, FAST, Draws(FAST)).set_index(["metric", "arm", "language"])
    assert found.loc[("mia_reference", "base", "hi"), "auc"] == 1.0
    assert found.loc[("mia_reference", "base", "hi"), "gap"] == 0.5
    for arm in ("oracle", "oracle_reference", "good"):
        assert found.loc[("mia_reference", arm, "hi"), "auc"] == 0.5


def test_without_an_oracle_there_is_no_reference_attack(scored) -> None:
    table = scored[scored["arm"] != "oracle_reference"].assign(nll_sum=1.0)
    found = membership_table(build_cells(table), FAST, Draws(FAST))
    row = found[found["metric"] == "mia_reference"].iloc[0]
    assert math.isnan(row["auc"])
    assert row["reason"] == "no oracle to compare with"
