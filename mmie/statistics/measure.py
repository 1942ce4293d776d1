"""One gate in one cell for one arm: estimate, interval and p-value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mmie.statistics.bootstrap import Floats, Resampled, Resampling
from mmie.statistics.cells import Cell
from mmie.statistics.effects import matched_odds_ratio, paired_dz
from mmie.statistics.equivalence import non_inferiority, tost
from mmie.statistics.gate_table import ATTACKS, Gate
from mmie.statistics.intervals import Interval, bca_interval
from mmie.statistics.mcnemar import mcnemar
from mmie.statistics.measurement import NAN, Measurement
from mmie.statistics.membership import measure_gap
from mmie.statistics.options import Draws, Options
from mmie.statistics.permutation import sign_flip
from mmie.statistics.power import detectable_difference
from mmie.statistics.transfer import Ratio, relative, transfer


def measure(
    gate: Gate,
    arm: str,
    language: str,
    cell: Cell | None,
    *,
    non_members: Cell | None = None,
    family: str,
    together: Sequence[str],
    options: Options,
    draws: Draws,
    n_flips: int,
) -> Measurement:
    """Measure a gate's statistic for one arm in one cell.

    Args:
        cell: aligned scores; None when nothing was evaluated there.
        non_members: holdout facts of the language, for the AUC of membership.
        family: family copy the test belongs to.
        together: arms that share one set of items: one without a score drops out for all of them.
        n_flips: random sign flips beyond 20 clusters.
    """
    empty = Measurement(
        family, arm, gate.name, language, gate.cell, gate.metric, gate.statistic, gate.test,
        gate.direction, threshold=gate.threshold, margin=NAN if gate.margin is None else gate.margin,
        ci_level=1.0 - options.alpha * (1 if gate.test == "sign_flip" else 2),
        calibration=arm in options.calibration,
    )  # fmt: skip
    if gate.cell == ATTACKS:
        return replace(empty, reason="no attack is configured")
    if cell is None:
        return replace(empty, reason="nothing was evaluated there")
    if gate.metric not in cell.metrics:
        return replace(empty, reason="the score was not computed")
    for needed in (arm, options.base):
        if needed not in cell.scores:
            return replace(empty, reason=f"{needed} was not evaluated there")

    if gate.statistic == "auc_gap":
        return measure_gap(gate, empty, cell, non_members, list(together), options, draws)
    oracle = options.reference if options.reference in cell.scores else None
    compared = [name for name in (*together, options.base) if name in cell.scores]
    if oracle is not None and gate.statistic == "transfer":
        compared.append(oracle)
    valid = cell.measured(sorted(set(compared)), gate.metric)
    dropped = int((~valid).sum())
    empty = replace(empty, n_items=int(valid.sum()), n_dropped=dropped, n_seeds=len(cell.seeds[arm]))
    if dropped > options.max_dropped * len(valid):
        return replace(empty, reason=f"{dropped} of {len(valid)} items have no score")

    if gate.statistic == "worst_seed_difference":
        runs = [
            _one(gate, empty, cell, arm, None, valid, options, draws, n_flips, seed=index)
            for index in range(len(cell.seeds[arm]))
        ]
        worst = max(runs, key=lambda run: run.estimate if gate.harm == "up" else -run.estimate)
        return replace(worst, p=max(run.p for run in runs))
    return _one(gate, empty, cell, arm, oracle, valid, options, draws, n_flips)


def _one(
    gate: Gate,
    empty: Measurement,
    cell: Cell,
    arm: str,
    oracle: str | None,
    valid: NDArray[np.bool_],
    options: Options,
    draws: Draws,
    n_flips: int,
    seed: int | None = None,
) -> Measurement:
    resampling = draws.of(cell)
    compared = [arm, options.base] if oracle is None else [arm, options.base, oracle]
    scores = {name: cell.column(name, gate.metric) for name in compared}
    means = {name: draws.means(cell, name, gate.metric, valid) for name in compared}
    if seed is not None:
        scores[arm] = scores[arm][:, [seed], :]
        means[arm] = resampling.means(scores[arm], valid=valid)
    items = {name: values.mean(axis=(1, 2)) for name, values in scores.items()}
    difference = items[arm] - items[options.base]
    of_clusters = resampling.cluster_means(difference, valid)
    names = (options.experiment, gate.family, gate.metric, empty.language, gate.cell)
    result = _statistic(gate, means[arm], means[options.base], means.get(oracle or ""), options)
    p_mcnemar, odds_ratio = _discordance(scores[arm], scores[options.base], valid)
    return replace(
        empty,
        seed="mean" if seed is None else str(cell.seeds[arm][seed]),
        arm_value=float(means[arm].point[0]),
        base_value=float(means[options.base].point[0]),
        oracle_value=float(means[oracle].point[0]) if oracle is not None else NAN,
        difference=float((means[arm] - means[options.base]).point[0]),
        largest_difference=float(np.abs(difference[valid]).max()),
        estimate=result.estimate,
        ci_low=result.interval.low,
        ci_high=result.interval.high,
        ci_method=result.interval.method,
        ci_reason=result.interval.reason,
        effect_dz=paired_dz(of_clusters),
        detectable=detectable_difference(of_clusters),
        p=_p_value(
            gate, resampling, items, arm, oracle, valid, of_clusters, options, names, n_flips
        ) if not result.reason else NAN,
        n_clusters=len(of_clusters),
        reason=result.reason,
        p_mcnemar=p_mcnemar,
        odds_ratio=odds_ratio,
    )  # fmt: skip


def _statistic(
    gate: Gate, arm: Resampled, base: Resampled, oracle: Resampled | None, options: Options
) -> Ratio:
    alpha, smallest = options.alpha, options.smallest_denominator
    if gate.statistic == "transfer":
        return transfer(arm, base, oracle, alpha=alpha, smallest=smallest)
    if gate.statistic == "ratio":
        return relative(arm, base, alpha=alpha, smallest=smallest)
    difference = arm - base
    level = alpha if gate.test == "sign_flip" else 2 * alpha
    interval: Interval = bca_interval(difference, level)
    return Ratio(float(difference.point[0]), interval, "")


def _p_value(
    gate: Gate,
    resampling: Resampling,
    items: dict[str, Floats],
    arm: str,
    oracle: str | None,
    valid: NDArray[np.bool_],
    of_clusters: Floats,
    options: Options,
    names: tuple[str, ...],
    n_flips: int,
) -> float:
    if gate.test == "tost" and gate.margin is not None:
        return tost(of_clusters, gate.margin, names=names, n_flips=n_flips)
    if gate.margin is not None:
        harm = gate.harm
        assert harm is not None  # only TOST watches both sides
        return non_inferiority(of_clusters, gate.margin, harm, names=names, n_flips=n_flips)
    if options.strict:
        # Linear in the scores: zero exactly where the statistic equals its threshold.
        floor = items[oracle] if oracle is not None and gate.statistic == "transfer" else 0.0
        if gate.statistic == "transfer":
            target = gate.threshold * floor + (1.0 - gate.threshold) * items[options.base]
        elif gate.statistic == "ratio":
            target = gate.threshold * items[options.base]
        else:
            target = items[options.base] + gate.threshold
        of_clusters = resampling.cluster_means(items[arm] - target, valid)
    return sign_flip(of_clusters, names=names, n_flips=n_flips)


def _discordance(arm: Floats, base: Floats, valid: NDArray[np.bool_]) -> tuple[float, float]:
    """McNemar's p and the matched odds ratio for binary scores of single runs, else nothing."""
    if arm.shape[1] != 1 or base.shape[1] != 1:
        return NAN, NAN
    left, right = arm[valid, 0, 0], base[valid, 0, 0]
    if not (np.isin(left, (0, 1)).all() and np.isin(right, (0, 1)).all()):
        return NAN, NAN
    gained, lost = int((left > right).sum()), int((left < right).sum())
    return mcnemar(gained, lost), matched_odds_ratio(gained, lost)
