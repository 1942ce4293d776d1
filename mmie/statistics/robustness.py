"""What each attack brings back, for every arm beside the base and the oracle under the same attack."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from mmie.statistics.bootstrap import Resampled
from mmie.statistics.cells import Cell, Cells, attack_cells
from mmie.statistics.options import Draws, Options
from mmie.statistics.scores import TRANSFER_SCORES
from mmie.statistics.transfer import Ratio, recovery, transfer

COLUMNS = (
    "attack", "arm", "language", "metric", "gating", "calibration", "before", "after",
    "transfer", "transfer_low", "transfer_high", "transfer_reason",
    "recovery", "recovery_low", "recovery_high", "recovery_reason",
    "area", "area_low", "area_high", "area_reason", "n_seeds", "n_items",
)  # fmt: skip
_BEFORE = ("test", "test_new_wording")


def robustness(
    attacks: pd.DataFrame | None, attacked: Cells, cells: Cells, options: Options, draws: Draws
) -> pd.DataFrame:
    """Transfer under every attack, the share of what was forgotten that came back, and its area.

    - `transfer`: T with arm, base and oracle under the same attack; 1 stays gone, 0 all back.
    - `recovery`: (S_attacked - S_arm) / (S_base - S_arm) after the last step. Base and arm in the
      denominator are not attacked: by step 0, or else by the evaluation of the same items.
    - `area`: recovery over log2(1 + step), trapezoid rule, divided by log2(1 + last step). An attack
      of one step has none.

    Every configured attack has a row for every arm and language, or one that says what is missing.
    """
    areas = attack_cells(attacks, at="area")
    first = _first_steps(attacks)
    wanted = {(language, attack) for language, attack in attacked} | {
        (language, attack) for attack in options.attacks for language, _ in attacked
    }
    arms = sorted({arm for cell in (*cells.values(), *attacked.values()) for arm in cell.scores})
    rows = []
    for language, attack in sorted(wanted, key=lambda key: (key[1], key[0])):
        cell = attacked.get((language, attack))
        before = None if cell is None else first.get((language, attack)) or _before(cell, cells)
        area = areas.get((language, attack)) if (language, attack) in first else None
        for metric in [name for name in TRANSFER_SCORES if cell is None or name in cell.metrics][:2]:
            for arm in arms:
                rows.append({
                    "attack": attack, "arm": arm, "language": language, "metric": metric,
                    "gating": attack in options.gating_attacks,
                    "calibration": arm in (*options.calibration, options.reference),
                    **_row(cell, before, area, arm, metric, options, draws),
                })  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _first_steps(attacks: pd.DataFrame | None) -> Cells:
    """Scores before the attack, of attacks with a curve that starts at step 0."""
    if attacks is None or attacks.empty:
        return {}
    steps = attacks.groupby("attack")["step"].agg(["min", "nunique"])
    curves = steps[(steps["min"] == 0) & (steps["nunique"] > 1)].index
    return attack_cells(attacks[(attacks["step"] == 0) & attacks["attack"].isin(curves)])


def _before(cell: Cell, cells: Cells) -> Cell | None:
    """The evaluation of an attack's items, aligned with it; None unless every item was evaluated."""
    sources = [cells[key] for name in _BEFORE if (key := (cell.language, name)) in cells]
    places = {item: (source, row) for source in sources for row, item in enumerate(source.items)}
    metrics = [name for name in cell.metrics if all(name in source.metrics for source in sources)]
    if not sources or not all(item in places for item in cell.items):
        return None
    shared = set.intersection(*(set(source.scores) for source in sources))
    scores = {
        arm: np.stack([
            source.scores[arm][row][:, [source.metrics.index(name) for name in metrics]]
            for source, row in (places[item] for item in cell.items)
        ])
        for arm in sorted(shared)
    }  # fmt: skip
    return Cell(cell.language, cell.name, cell.items, cell.clusters, tuple(metrics), scores,
                {arm: sources[0].seeds[arm] for arm in scores})  # fmt: skip


def _row(
    cell: Cell | None, before: Cell | None, area: Cell | None, arm: str, metric: str,
    options: Options, draws: Draws,
) -> dict[str, object]:  # fmt: skip
    row: dict[str, object] = {"before": math.nan, "after": math.nan, "n_seeds": 0, "n_items": 0}
    if cell is None or arm not in cell.scores or options.base not in cell.scores:
        reason = "the attack was not run" if cell is None else "not attacked"
        return {**row, **_said("transfer", reason), **_said("recovery", reason), **_said("area", reason)}
    after = _mean(cell, arm, metric, options, draws)
    base = _mean(cell, options.base, metric, options, draws)
    row |= {"n_seeds": len(cell.seeds[arm]), "n_items": len(cell.items)}
    if after is None or base is None:
        reason = "too many items have no score"
        return {**row, **_said("transfer", reason), **_said("recovery", reason), **_said("area", reason)}
    oracle = None
    if options.reference in cell.scores:
        oracle = _mean(cell, options.reference, metric, options, draws)
    level = {"alpha": options.alpha, "smallest": options.smallest_denominator}
    row |= {"after": float(after.point[0])}
    row |= _shown("transfer", transfer(after, base, oracle, **level))
    unattacked = [_mean(before, name, metric, options, draws) for name in (arm, options.base)]
    if unattacked[0] is None or unattacked[1] is None:
        reason = "the attacked items were not all evaluated without the attack"
        return {**row, **_said("recovery", reason), **_said("area", reason)}
    row |= {"before": float(unattacked[0].point[0])}
    row |= _shown("recovery", recovery(after, unattacked[0], unattacked[1], **level))
    mean_area = _mean(area, arm, metric, options, draws)
    if mean_area is None:
        return {**row, **_said("area", "the attack has no curve from step 0")}
    return {**row, **_shown("area", recovery(mean_area, unattacked[0], unattacked[1], **level))}


def _mean(cell: Cell | None, arm: str, metric: str, options: Options, draws: Draws) -> Resampled | None:
    """Mean of one score; None unless nearly every item has it in every arm."""
    if cell is None or arm not in cell.scores or metric not in cell.metrics:
        return None
    valid = cell.measured(sorted(cell.scores), metric)
    if (~valid).sum() > options.max_dropped * len(valid):
        return None
    return draws.means(cell, arm, metric, valid)


def _shown(name: str, found: Ratio) -> dict[str, object]:
    return {
        name: found.estimate, f"{name}_low": found.interval.low, f"{name}_high": found.interval.high,
        f"{name}_reason": found.reason or found.interval.reason,
    }  # fmt: skip


def _said(name: str, reason: str) -> dict[str, object]:
    return {name: math.nan, f"{name}_low": math.nan, f"{name}_high": math.nan, f"{name}_reason": reason}
