"""How often chance alone PROCEEDs, and how many rejections are false, on clustered data with like seeds.

Every rate comes with its one-sided 95 % bound (Clopper and Pearson), or its Monte Carlo error.
"""

from __future__ import annotations

import numpy as np
import pytest

from mmie.statistics.gate_table import read_gates
from mmie.statistics.judge import judge
from mmie.statistics.multiplicity import benjamini_hochberg
from mmie.statistics.options import Draws, Options
from mmie.statistics.permutation import sign_flip
from mmie.statistics.permuted import upper_bound
from tests.statistics.conftest import gate_table
from tests.statistics.simulation import ROLES, Truth, simulated_cells

LEVEL = 0.05
ORACLE = Truth(forget=0.05, noise=0.2, seeds=1)


def proceeds(
    gates: dict, base: Truth, arm: Truth, *, arms: int, experiments: int, clusters: int
) -> tuple[int, int]:
    """(arms that earned PROCEED, arms); calibration of the run is left aside, which only adds PROCEEDs."""
    names = [f"arm{number}" for number in range(arms)]
    proceeded = 0
    for experiment in range(experiments):
        known = {"base": base, "oracle": ORACLE, "oracle_reference": ORACLE}
        cells, attacked = simulated_cells(
            known | dict.fromkeys(names, arm), np.random.default_rng(experiment), clusters=clusters
        )
        options = Options(
            experiment=f"simulated {experiment}", n_resamples=1000, permuted_labels=1, attacks=("relearn",)
        )
        _, content = judge(cells, attacked, read_gates(gates), ROLES, options, Draws(options))
        proceeded += sum(set(content["arms"][name]["codes"]) <= {"uncalibrated"} for name in names)
    return proceeded, arms * experiments


def test_the_whole_procedure_lets_no_more_than_one_null_arm_in_twenty_proceed() -> None:
    left_out = ("bits", "confusion", "membership")
    gates = {name: gate for name, gate in gate_table().items() if name not in left_out}
    gates["relearning"]["cell"] = "attacks"
    base, arm = Truth(noise=0.0, seeds=1), Truth(noise=1.5)
    found = proceeds(gates, base, arm, arms=10, experiments=8, clusters=12)
    print(f"{found[0]} of {found[1]} PROCEED, at most {upper_bound(*found):.3f}")
    assert upper_bound(*found) <= LEVEL


def test_a_single_gate_on_noisy_arms_lets_no_more_than_one_in_twenty_proceed() -> None:
    # The procedure at its weakest: one gate, one arm, a low threshold, differences of half the range.
    gates = {"forget": {**gate_table()["forget"], "threshold": 0.3}}
    base, arm = Truth(forget=0.5, noise=0.0, seeds=1), Truth(forget=0.5, noise=5.0)
    found = proceeds(gates, base, arm, arms=1, experiments=250, clusters=8)
    assert found[0] > 0, "the simulation is too tame to say anything"
    print(f"{found[0]} of {found[1]} PROCEED, at most {upper_bound(*found):.3f}")
    assert upper_bound(*found) <= LEVEL


def test_harm_exactly_at_the_margin_is_rarely_taken_for_preservation() -> None:
    # Forgetting is real, so that preservation alone decides; accuracy falls by the margin, 5 points.
    gates = {name: gate_table()[name] for name in ("forget", "utility")}
    base, arm = Truth(kept=0.9, noise=0.0, seeds=1), Truth(forget=0.02, kept=0.85, noise=0.5)
    found = proceeds(gates, base, arm, arms=10, experiments=25, clusters=12)
    print(f"{found[0]} of {found[1]} PROCEED, at most {upper_bound(*found):.3f}")
    assert 0 < found[0] <= LEVEL * found[1]


def _p_values(
    rng: np.random.Generator, effects: np.ndarray, *, clusters: int, items: int, seeds: int, clustered: bool
) -> np.ndarray:
    """One family: differences to one base, with noise of items, clusters, arms and runs in common."""
    base = rng.normal(size=(clusters, 1)) * 0.7 + rng.normal(size=(clusters, items)) * 0.7
    p = []
    for test, effect in enumerate(effects):
        shared = rng.normal(size=(clusters, 1)) + 0.5 * rng.normal(size=(clusters, items))
        runs = [
            shared + 0.5 * rng.normal(size=(clusters, 1)) + 0.5 * rng.normal(size=(clusters, items))
            for _ in range(seeds)
        ]
        difference = effect + np.mean(runs, axis=0) - 0.5 * base
        values = difference.mean(axis=1) if clustered else difference.ravel()
        p.append(sign_flip(values, names=("simulated", test)))
    return np.array(p)


@pytest.mark.parametrize("nulls", [6, 3])
def test_the_false_discovery_rate_stays_at_its_level_in_a_dependent_family(nulls: int) -> None:
    rng, effects = np.random.default_rng(nulls), np.repeat([0.0, 1.5], [nulls, 6 - nulls])
    shares = []
    for _ in range(2500):
        p = _p_values(rng, effects, clusters=8, items=4, seeds=3, clustered=True)
        rejected = benjamini_hochberg(p) <= LEVEL
        shares.append(rejected[:nulls].sum() / max(1, rejected.sum()))
    error = np.std(shares, ddof=1) / np.sqrt(len(shares))
    print(f"false discovery rate {np.mean(shares):.4f}, Monte Carlo error {error:.4f}")
    assert error <= 0.005
    assert np.mean(shares) <= LEVEL * nulls / 6 + 1.645 * error


def test_ignoring_clusters_would_break_the_level() -> None:
    # The same data with every item as its own cluster: the simulation can tell a wrong procedure.
    rng = np.random.default_rng(0)
    p = [_p_values(rng, np.zeros(1), clusters=10, items=5, seeds=3, clustered=False)[0] for _ in range(150)]
    assert np.mean(np.array(p) <= LEVEL) > 3 * LEVEL
