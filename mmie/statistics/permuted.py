"""Does the whole procedure stop an arm whose difference to the base is only chance?

Arm and base swap names in randomly drawn clusters. Whatever the arm did, the swapped pair has no
systematic difference, so that PROCEED is a false alarm and its rate the procedure's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from mmie.io import seed_from
from mmie.statistics.cells import Cell, Cells
from mmie.statistics.equivalence import non_inferiority, tost
from mmie.statistics.gate_table import Gate
from mmie.statistics.gates import Roles, cell_of, expanded, not_applicable
from mmie.statistics.multiplicity import benjamini_hochberg, benjamini_yekutieli
from mmie.statistics.options import Draws, Options
from mmie.statistics.permutation import p_values_of_sums

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Test:
    """Cluster means of one test: arm, base and oracle [clusters], and each cluster's coin [swaps]."""

    gate: Gate
    arm: Floats
    base: Floats
    oracle: Floats
    swapped: NDArray[np.bool_]

    def means(self) -> tuple[Floats, Floats, float]:
        """Mean of arm and base under every swap, [swaps], and of the oracle."""
        moved = self.swapped @ (self.base - self.arm) / len(self.arm)
        return self.arm.mean() + moved, self.base.mean() - moved, float(self.oracle.mean())

    def sums(self) -> Floats:
        """Sum of cluster differences under every swap, [swaps]."""
        result: Floats = np.where(self.swapped, -1.0, 1.0) @ (self.arm - self.base)
        return result


def permuted_labels(
    gates: Sequence[Gate],
    cells: Cells,
    attacked: Cells,
    arms: Sequence[str],
    roles: Roles,
    options: Options,
    draws: Draws,
) -> dict[str, Any]:
    """Swap arm and base within clusters many times and count how often the pair would PROCEED.

    A cluster keeps its coin in every language, cell and attack. Each arm is corrected in a family of
    its own. Where the check leaves something out it errs towards PROCEED: gates that could not be
    measured, gates of an AUC, intervals of preservation gates and of the transfer's denominator
    count as passed.

    Returns:
        "swaps", "level"; "arms": "proceeded", "rate" and "bound" (one-sided 95 %, Clopper-Pearson)
        by arm; "held": no rate exceeds the level.
    """
    used = [gate for gate in gates if gate.required and not not_applicable(gate, roles)]
    coins = _Coins([*cells.values(), *attacked.values()], options)
    found: dict[str, dict[str, float]] = {}
    for arm in sorted(set(arms) - {options.base}):
        tests = [
            test
            for gate in used if gate.statistic != "auc_gap"
            for part in expanded(gate, options)
            for language in roles[gate.languages]
            if (test := _test(part, arm, cell_of(part, language, cells, attacked), coins, options, draws))
        ]  # fmt: skip
        effects = [test for test in tests if test.gate.margin is None]
        if not any(test.gate.family == "efficacy" for test in effects):
            continue
        alive = _effects_pass(effects, options)
        for swap in np.flatnonzero(alive).tolist():
            alive[swap] = _preserves([test for test in tests if test.gate.margin is not None], swap, options)
        proceeded = int(alive.sum())
        found[arm] = {
            "proceeded": proceeded,
            "rate": proceeded / options.permuted_labels,
            "bound": upper_bound(proceeded, options.permuted_labels),
        }
    return {
        "swaps": options.permuted_labels,
        "level": options.alpha,
        "arms": found,
        "held": all(entry["rate"] <= options.alpha for entry in found.values()),
    }


def upper_bound(events: int, trials: int, confidence: float = 0.95) -> float:
    """One-sided upper confidence bound of a rate (Clopper and Pearson 1934): 0 of 200 gives 1.5 %."""
    return 1.0 if events >= trials else float(beta.ppf(confidence, events + 1, trials - events))


class _Coins:
    """One coin a cluster and swap, shared by everything that is measured on the cluster."""

    def __init__(self, cells: Sequence[Cell], options: Options) -> None:
        clusters = sorted({cluster for cell in cells for cluster in cell.clusters})
        rng = np.random.default_rng(seed_from("permuted labels", options.experiment))
        self._row = {cluster: row for row, cluster in enumerate(clusters)}
        self._coins = rng.integers(0, 2, size=(len(clusters), options.permuted_labels)).astype(bool)

    def of(self, clusters: Sequence[str]) -> NDArray[np.bool_]:
        """[swaps, clusters]."""
        return self._coins[[self._row[cluster] for cluster in clusters]].T


def _test(
    gate: Gate, arm: str, cell: Cell | None, coins: _Coins, options: Options, draws: Draws
) -> _Test | None:
    if cell is None or gate.metric not in cell.metrics:
        return None
    if arm not in cell.scores or options.base not in cell.scores:
        return None
    oracle = options.reference if options.reference in cell.scores else None
    names = [arm, options.base, *([oracle] if oracle and gate.statistic == "transfer" else [])]
    valid = cell.measured(names, gate.metric)
    if not valid.any():
        return None
    resampling = draws.of(cell)
    means = [
        resampling.cluster_means(cell.column(name, gate.metric).mean(axis=(1, 2)), valid) for name in names
    ]
    clusters = sorted({cell.clusters[item] for item in np.flatnonzero(valid)})
    return _Test(
        gate, means[0], means[1], means[2] if len(means) > 2 else np.zeros_like(means[0]),
        coins.of(clusters),
    )  # fmt: skip


def _effects_pass(tests: Sequence[_Test], options: Options) -> NDArray[np.bool_]:
    """Swaps under which every effect is reached and significant, [swaps]."""
    alive = np.ones(options.permuted_labels, dtype=bool)
    for family in sorted({test.gate.family for test in tests}):
        own = [test for test in tests if test.gate.family == family]
        p = np.stack([p_values_of_sums(test.arm - test.base, test.sums()) for test in own], axis=1)
        reached = np.stack([_reached(test, options) for test in own], axis=1)
        alive &= reached.all(axis=1)
        for swap in np.flatnonzero(alive):
            alive[swap] = bool((_corrected(p[swap], options) <= options.alpha).all())
    return alive


def _reached(test: _Test, options: Options) -> NDArray[np.bool_]:
    arm, base, oracle = test.means()
    with np.errstate(divide="ignore", invalid="ignore"):
        if test.gate.statistic == "transfer":
            span = base - oracle
            estimate = np.where(span >= options.smallest_denominator, 1.0 - (arm - oracle) / span, np.nan)
        elif test.gate.statistic == "ratio":
            estimate = np.where(base >= options.smallest_denominator, arm / base, np.nan)
        else:
            estimate = arm - base
    return _inside(test.gate, estimate)


def _inside(gate: Gate, estimate: Floats) -> NDArray[np.bool_]:
    if gate.direction == "within":
        return np.abs(estimate) <= gate.threshold
    return estimate >= gate.threshold if gate.direction == "at_least" else estimate <= gate.threshold


def _preserves(tests: Sequence[_Test], swap: int, options: Options) -> bool:
    """Whether a swapped pair keeps every preservation gate."""
    p_values: Mapping[str, list[float]] = {test.gate.family: [] for test in tests}
    for test in tests:
        values = np.where(test.swapped[swap], -1.0, 1.0) * (test.arm - test.base)
        assert test.gate.margin is not None  # chosen by it
        if not _inside(test.gate, values.mean()):
            return False
        names = ("permuted labels",)
        harm = test.gate.harm
        p_values[test.gate.family].append(
            tost(values, test.gate.margin, names=names)
            if harm is None
            else non_inferiority(values, test.gate.margin, harm, names=names)
        )
    return all((_corrected(np.array(p), options) <= options.alpha).all() for p in p_values.values())


def _corrected(p: Floats, options: Options) -> Floats:
    return (benjamini_hochberg if options.correction == "bh" else benjamini_yekutieli)(p)
