from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mmie.statistics.cells import build_cells
from mmie.statistics.options import Options
from mmie.statistics.repeats import PERMUTED, calibration_repeats, redrawn

FAST = Options(experiment="planted", n_resamples=1000, trained_arms=("good", "harmful"))


@pytest.fixture(scope="module")
def repeated(plant, planted_arms) -> pd.DataFrame:
    from tests.statistics.conftest import ROLES, gate_table

    known = ("base", "oracle", "oracle_reference", "broken", "sae-random", "good")
    arms = {name: planted_arms[name] for name in known} | {"sae-shuffled": planted_arms["sae-random"]}
    options = replace(FAST, controls=("sae-random", "sae-shuffled"))
    # The shape of the default experiment: with fewer clusters five points cannot be told from none.
    return calibration_repeats(*plant(arms, clusters=75, items=3), ROLES, gate_table(), options)


@pytest.mark.regression("STA-02")
@pytest.mark.parametrize("arm", ["base", "oracle", "broken", "sae-random", "sae-shuffled", PERMUTED])
def test_every_known_verdict_holds_in_twenty_repeats_of_the_items(repeated, arm: str) -> None:
    own = repeated[repeated["arm"] == arm]
    assert own["repeat"].tolist() == list(range(20))
    assert own["held"].all(), own[~own["held"]].to_string()


def test_the_verdicts_are_the_expected_ones_and_not_only_said_to_hold(repeated) -> None:
    by_arm = repeated.set_index(["arm", "repeat"])
    assert (by_arm.loc["oracle", "decision"] == "PROCEED").all()
    for arm in ("base", "broken", "sae-random", "sae-shuffled"):
        assert (by_arm.loc[arm, "decision"] == "STOP").all()
    assert by_arm.loc["base", "codes"].str.contains("no_effect").all()
    assert by_arm.loc["broken", "codes"].str.contains("utility_loss|collapsed").all()
    assert by_arm.loc["sae-random", "codes"].str.contains("no_effect").all()


def test_a_broken_control_is_seen(plant, planted_arms, gates, roles) -> None:
    arms = {name: planted_arms[name] for name in ("base", "oracle", "oracle_reference", "broken")}
    arms["sae-random"] = planted_arms["oracle"]  # a control that forgets
    found = calibration_repeats(*plant(arms, clusters=75, items=3), roles, gates, FAST, repeats=2)
    assert not found.loc[found["arm"] == "sae-random", "held"].any()


def test_a_redrawn_cluster_keeps_its_items_together_and_its_arms_paired(experiment) -> None:
    cell = build_cells(experiment[0])["hi", "test"]
    names = sorted(set(cell.clusters))
    times = {name: {0: 2, 1: 0}.get(place, 1) for place, name in enumerate(names)}
    again = redrawn(cell, times)
    assert again.n_clusters == len(names) and len(again.items) == len(cell.items)
    assert f"{names[0]}#1" in again.clusters and f"{names[1]}#0" not in again.clusters
    copies = [np.array([c == f"{names[0]}#{i}" for c in again.clusters]) for i in range(2)]
    for scores in again.scores.values():
        assert np.array_equal(scores[copies[0]], scores[copies[1]])
