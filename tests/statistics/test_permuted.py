from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mmie.io import seed_from
from mmie.statistics.aggregate import aggregate
from mmie.statistics.cells import Cell, attack_cells, build_cells
from mmie.statistics.gate_table import read_gates
from mmie.statistics.judge import judge
from mmie.statistics.options import Draws, Options
from mmie.statistics.permuted import permuted_labels, upper_bound
from mmie.statistics.verdict import calibrate

FAST = Options(experiment="planted", n_resamples=1000)


def test_no_arm_proceeds_when_its_name_and_the_bases_are_swapped_at_random(summary) -> None:
    found = summary.gates["calibration"]["permuted_labels"]
    assert found["held"] and found["swaps"] == 200
    # Arms with a real effect are the hard case: every swapped cluster still differs.
    assert {"good", "oracle", "broken"} <= set(found["arms"])
    assert all(entry["rate"] <= 0.05 for entry in found["arms"].values())
    # `base` and `sae-random` have no effect to swap, so nothing of theirs can PROCEED.
    assert found["arms"]["sae-random"]["proceeded"] == 0
    assert found["arms"]["sae-random"]["bound"] == pytest.approx(0.0149, abs=5e-5)  # 0 of 200


def test_a_procedure_that_lets_swapped_labels_proceed_makes_the_run_uncalibrated(experiment, roles) -> None:
    # At level 0.5, with next to no effect to reach, noise is enough.
    gates = {"forget": {
        "metric": "leak", "languages": "forget_native", "statistic": "transfer", "direction": "at_least",
        "threshold": 0.001, "test": "sign_flip", "family": "efficacy",
    }}  # fmt: skip
    options = replace(FAST, alpha=0.6)
    cells, draws = build_cells(experiment[0]), Draws(options)
    found = permuted_labels(read_gates(gates), cells, {}, ["base", "good"], roles, options, draws)
    assert found["arms"]["good"]["rate"] > 0.1
    strict = {**found, "level": 0.05}
    reasons = calibrate({}, {}, [], [], FAST, strict)["reasons"]
    assert any("random swaps of good and the base PROCEED" in reason for reason in reasons)


def test_the_check_agrees_with_judging_the_swapped_rows_themselves(experiment, gates, roles) -> None:
    """Every shortcut errs towards PROCEED: a swap that really PROCEEDs is counted."""
    del gates["membership"]
    options = replace(FAST, permuted_labels=3, alpha=0.4)
    for name in ("forget", "scripts", "mixed", "relearning"):
        gates[name]["threshold"] = 0.02
    table = read_gates(gates)
    cells, attacked = build_cells(experiment[0]), attack_cells(experiment[1])
    clusters = sorted({c for cell in [*cells.values(), *attacked.values()] for c in cell.clusters})
    coins = np.random.default_rng(seed_from("permuted labels", "planted")).integers(
        0, 2, size=(len(clusters), 3)
    )
    really = 0
    for swap in range(3):
        coin = dict(zip(clusters, coins[:, swap].astype(bool), strict=True))
        swapped = [{key: _swapped(cell, coin) for key, cell in part.items()} for part in (cells, attacked)]
        _, content = judge(*swapped, table, roles, options, Draws(options))
        really += set(content["arms"]["oracle"]["codes"]) <= {"uncalibrated"}
    checked = permuted_labels(table, cells, attacked, ["oracle"], roles, options, Draws(options))
    assert checked["arms"]["oracle"]["proceeded"] >= really


def _swapped(cell: Cell, coin: dict[str, bool]) -> Cell:
    """Base and oracle with their rows exchanged in the chosen clusters."""
    chosen = np.array([coin[cluster] for cluster in cell.clusters])[:, None, None]
    base, oracle = cell.scores["base"], cell.scores["oracle"]
    scores = {**cell.scores, "base": np.where(chosen, oracle, base), "oracle": np.where(chosen, base, oracle)}
    return replace(cell, scores=scores)


def test_a_swapped_pair_judged_by_the_gates_stops(experiment, gates, roles) -> None:
    evaluation, attacks = (table.copy() for table in experiment)
    rng = np.random.default_rng(0)
    groups = sorted(set(evaluation["group"]))
    chosen = set(np.array(groups)[rng.integers(0, 2, size=len(groups)).astype(bool)])
    for table in (evaluation, attacks):
        exchange = table["group"].isin(chosen)
        table["arm"] = table["arm"].where(
            ~exchange, table["arm"].replace({"base": "oracle", "oracle": "base"})
        )
    entry = aggregate(evaluation, attacks, roles, gates, FAST).gates["arms"]["oracle"]
    assert entry["decision"] == "STOP"
    assert {"no_effect", "below_threshold"} & set(entry["codes"])


def test_the_bound_of_a_rate_is_clopper_and_pearsons() -> None:
    assert upper_bound(0, 200) == pytest.approx(1 - 0.05 ** (1 / 200))
    assert upper_bound(3, 3) == 1.0


def test_the_check_does_not_depend_on_the_order_of_rows(experiment, gates, roles) -> None:
    table = read_gates(gates)
    found = []
    for rows in (experiment[0], experiment[0].sample(frac=1.0, random_state=1)):
        cells = build_cells(pd.DataFrame(rows))
        found.append(permuted_labels(table, cells, {}, ["good"], roles, FAST, Draws(FAST)))
    assert found[0] == found[1]
