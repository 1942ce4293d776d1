"""Membership: does the model still rank what it was trained on above real non-members?"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmie.statistics.auc import TwoClasses
from mmie.statistics.bootstrap import Resampled
from mmie.statistics.cells import Cell, Cells
from mmie.statistics.gate_table import Gate
from mmie.statistics.intervals import bca_interval, least_alpha_inside
from mmie.statistics.measurement import Measurement
from mmie.statistics.options import Draws, Options
from mmie.statistics.scores import MEMBERSHIP_SCORES

MEMBERS, NON_MEMBERS = "test", "holdout"
LEAST_ROOM = 0.05  # of 1 - AUC_oracle, below which PrivLeak explodes
REFERENCE_ATTACK = "mia_reference"
_LOSS = "nll_sum"  # what the reference attack compares with the reference oracle's
_LEGACY = "mia_min_k"
_FLAG_MARGIN = 0.05
COLUMNS = (
    "arm", "language", "metric", "auc", "auc_low", "auc_high", "gap", "gap_low", "gap_high",
    "over_unlearned", "priv_leak", "n_members", "n_non_members", "n_seeds", "ci_method", "reason",
)  # fmt: skip


def measure_gap(
    gate: Gate,
    empty: Measurement,
    members: Cell,
    non_members: Cell | None,
    together: list[str],
    options: Options,
    draws: Draws,
) -> Measurement:
    """AUC of the arm minus AUC of the reference oracle, tested for equivalence.

    The target is the oracle's AUC, never 0.5: a model that did not see the facts may well find one
    set easier than the other. Forget and holdout clusters are resampled apart, arm and oracle
    together. p is the smallest alpha whose 1 - 2 alpha interval lies inside the margin.

    Args:
        gate: with statistic "auc_gap" and a margin.
        empty: the measurement to fill.
        members, non_members: TEST and holdout items of one language, in trained wordings.
        together: arms that share one set of items.

    Returns:
        The measurement; without holdout items or an oracle its reason says so and nothing is measured.
    """
    assert gate.margin is not None  # the gate table asks for one
    if non_members is None:
        return replace(empty, reason="no holdout fact was evaluated, and members need non-members")
    needed = [empty.arm, options.base, options.reference]
    for name in needed:
        if name not in members.scores or name not in non_members.scores:
            what = "the oracle" if name == options.reference else name
            return replace(empty, reason=f"{what} was not evaluated there")
    arms = sorted({*needed, *(arm for arm in together if arm in members.scores)})
    classes, dropped = _classes(members, non_members, arms, gate.metric, draws)
    n_items = int(classes.of_positives.sum() + classes.of_negatives.sum())
    empty = replace(empty, n_items=n_items, n_dropped=dropped, n_seeds=len(members.seeds[empty.arm]))
    if dropped > options.max_dropped * (n_items + dropped):
        return replace(empty, reason=f"{dropped} of {n_items + dropped} items have no score")
    found = {arm: _auc(classes, members, non_members, arm, gate.metric, draws) for arm in needed}
    gap = found[empty.arm] - found[options.reference]
    interval = bca_interval(gap, 2 * options.alpha)
    moved = np.abs(
        (members.column(empty.arm, gate.metric).mean(axis=1)
         - members.column(options.base, gate.metric).mean(axis=1))[classes.of_positives]
    )  # fmt: skip
    return replace(
        empty,
        arm_value=float(found[empty.arm].point[0]),
        base_value=float(found[options.base].point[0]),
        oracle_value=float(found[options.reference].point[0]),
        difference=float((found[empty.arm] - found[options.base]).point[0]),
        largest_difference=float(moved.max()),
        estimate=float(gap.point[0]),
        ci_low=interval.low,
        ci_high=interval.high,
        ci_method=interval.method,
        ci_reason=interval.reason,
        p=least_alpha_inside(gap, gate.margin),
        n_clusters=min(
            len(np.unique(classes.positives.clusters[classes.of_positives])),
            len(np.unique(classes.negatives.clusters[classes.of_negatives])),
        ),
    )


def membership_table(cells: Cells, options: Options, draws: Draws) -> pd.DataFrame:
    """AUC of every arm, language and attack score, its gap to the oracle, and two flags.

    `over_unlearned` marks an AUC below 0.5 - 0.05: members look less familiar than facts that no
    model saw. Read it beside the oracle's own AUC. `priv_leak` is a legacy column, from Min-K alone:
    100 ((1 - AUC) - (1 - AUC_oracle)) / (1 - AUC_oracle), NaN where 1 - AUC_oracle < 0.05.

    `mia_reference` is the attack with a reference model: loss of the reference oracle minus that of the
    arm, nats, item by item, which takes out how hard an item is (arXiv 2112.03570, without shadow
    models). Against itself the oracle has 0.5 by construction, so no gate reads it.

    Returns:
        One row an arm, language and score, with `reason` where something is missing. Empty when no
        attack score was computed.
    """
    rows = []
    for language in sorted({language for language, _ in cells}):
        members, others = cells.get((language, MEMBERS)), cells.get((language, NON_MEMBERS))
        if members is None:
            continue
        for metric in (name for name in MEMBERSHIP_SCORES if name in members.metrics):
            for arm in sorted(members.scores):
                row = _row(members, others, arm, metric, options, draws)
                rows.append({"arm": arm, "language": language, "metric": metric, **row})
        for arm in sorted(members.scores) if _LOSS in members.metrics else ():
            row = _reference_row(members, others, arm, options, draws)
            rows.append({"arm": arm, "language": language, "metric": REFERENCE_ATTACK, **row})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def auc_levels(table: pd.DataFrame) -> pd.DataFrame:
    """The AUCs as rows of metrics.parquet; `direction` is the oracle's value, not an end."""
    return pd.DataFrame({
        "arm": table["arm"], "language": table["language"], "split": MEMBERS,
        "metric": table["metric"].str.replace("mia_", "auc_"), "estimate": table["auc"],
        "ci_low": table["auc_low"], "ci_high": table["auc_high"], "ci_method": table["ci_method"],
        "n_seeds": table["n_seeds"], "n_items": table["n_members"], "reason": table["reason"],
        "status": table["auc"].notna().map({True: "measured", False: "failed"}),
        "direction": "oracle",
    })  # fmt: skip


def priv_leak(auc: float, oracle: float) -> float:
    """PrivLeak in per cent, from AUCs in which 1 means that members are recognised.

    0 at the oracle's AUC, about -100 for a model that memorised, above 0 for over-unlearning. NaN
    where 1 - oracle is below 0.05: the published form explodes there.

    Source: MUSE (arXiv 2407.06460), whose AUC is one minus this one.
    """
    room = 1.0 - oracle
    return 100.0 * ((1.0 - auc) - room) / room if room >= LEAST_ROOM else math.nan


def _row(
    members: Cell, others: Cell | None, arm: str, metric: str, options: Options, draws: Draws
) -> dict[str, object]:
    nothing = _nothing(members, arm)
    if others is None or arm not in others.scores:
        return {**nothing, "reason": "no holdout fact was evaluated"}
    has_oracle = all(options.reference in cell.scores for cell in (members, others))
    arms = [arm, options.reference] if has_oracle else [arm]
    classes, dropped = _classes(members, others, arms, metric, draws)
    counted = int(classes.of_positives.sum()), int(classes.of_negatives.sum())
    if dropped > options.max_dropped * (sum(counted) + dropped) or 0 in counted:
        return {**nothing, "reason": f"{dropped} of {sum(counted) + dropped} items have no score"}
    own = _auc(classes, members, others, arm, metric, draws)
    level = bca_interval(own, options.alpha)
    auc = float(own.point[0])
    row = {
        **nothing, "auc": auc, "auc_low": level.low, "auc_high": level.high,
        "over_unlearned": auc < 0.5 - _FLAG_MARGIN, "n_members": counted[0],
        "n_non_members": counted[1], "ci_method": level.method, "reason": level.reason,
    }  # fmt: skip
    if not has_oracle:
        return {**row, "reason": "no oracle to compare with"}
    oracle = _auc(classes, members, others, options.reference, metric, draws)
    gap = own - oracle
    interval = bca_interval(gap, 2 * options.alpha)
    row |= {"gap": float(gap.point[0]), "gap_low": interval.low, "gap_high": interval.high}
    if metric == _LEGACY:
        row["priv_leak"] = priv_leak(auc, float(oracle.point[0]))
    return row


def _nothing(members: Cell, arm: str) -> dict[str, object]:
    return {
        **dict.fromkeys(COLUMNS[3:9], math.nan), "over_unlearned": False, "priv_leak": math.nan,
        "n_members": 0, "n_non_members": 0, "n_seeds": len(members.seeds[arm]), "ci_method": "none",
    }  # fmt: skip


def _reference_row(
    members: Cell, others: Cell | None, arm: str, options: Options, draws: Draws
) -> dict[str, object]:
    nothing = _nothing(members, arm)
    if others is None or not all({arm, options.reference} <= set(cell.scores) for cell in (members, others)):
        return {**nothing, "reason": "no oracle to compare with"}
    classes, _ = _classes(members, others, [arm, options.reference], _LOSS, draws)
    counted = int(classes.of_positives.sum()), int(classes.of_negatives.sum())
    if 0 in counted:
        return {**nothing, "reason": "no items with a score"}
    gained = [
        cell.column(options.reference, _LOSS).mean(axis=(1, 2))[:, None] - cell.column(arm, _LOSS)[:, :, 0]
        for cell in (members, others)
    ]
    own = classes.auc(gained[0], gained[1], draws.seeds(arm, len(members.seeds[arm])))
    level, around = bca_interval(own, options.alpha), bca_interval(own, 2 * options.alpha)
    auc = float(own.point[0])
    return {
        **nothing, "auc": auc, "auc_low": level.low, "auc_high": level.high, "gap": auc - 0.5,
        "gap_low": around.low - 0.5, "gap_high": around.high - 0.5,
        "over_unlearned": auc < 0.5 - _FLAG_MARGIN, "n_members": counted[0],
        "n_non_members": counted[1], "ci_method": level.method, "reason": level.reason,
    }  # fmt: skip


def _classes(
    members: Cell, others: Cell, arms: list[str], metric: str, draws: Draws
) -> tuple[TwoClasses, int]:
    valid: list[NDArray[np.bool_]] = [cell.measured(arms, metric) for cell in (members, others)]
    classes = TwoClasses(draws.of(members), draws.of(others), valid[0], valid[1])
    return classes, int(sum((~items).sum() for items in valid))


def _auc(classes: TwoClasses, members: Cell, others: Cell, arm: str, metric: str, draws: Draws) -> Resampled:
    return draws.kept(
        ("auc", draws.name(members), arm, metric, classes.of_positives.tobytes(),
         classes.of_negatives.tobytes()),
        lambda: classes.auc(
            members.column(arm, metric)[:, :, 0],
            others.column(arm, metric)[:, :, 0],
            draws.seeds(arm, len(members.seeds[arm])),
        ),
    )  # fmt: skip
