"""Preservation margins, widened on DEV where retraining alone moves a score by more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from mmie.statistics.cells import Cell, Cells, build_cells
from mmie.statistics.gate_table import Gate, read_gates
from mmie.statistics.gates import Roles, not_applicable
from mmie.statistics.intervals import bca_interval
from mmie.statistics.options import Draws, Options


def calibrate_margins(
    dev: pd.DataFrame,
    gates: Iterable[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]],
    roles: Roles,
    options: Options | None = None,
) -> dict[str, dict[str, Any]]:
    """Margins from evaluation rows of the base and the reference oracle; only DEV rows are read.

    An oracle never saw the forget set and did no harm, so a margin that it would leave is narrower
    than the noise of retraining. The margin used is max(preset, upper 95 % bound of
    |oracle - base|), the bound taken over the gate's languages and times `options.headroom`.

    Returns:
        By gate: "preset", "dev_bound", "used", "headroom", "language" (of the bound), "note".
    """
    options = options or Options()
    rows = dev[(dev["split"] == "dev") & dev["arm"].isin([options.base, options.reference])]
    cells = build_cells(rows) if len(rows) else {}
    return margins_from_cells(cells, read_gates(gates), roles, options, Draws(options))


def margins_from_cells(
    cells: Cells, gates: Iterable[Gate], roles: Roles, options: Options, draws: Draws
) -> dict[str, dict[str, Any]]:
    """`calibrate_margins` on aligned rows; cells other than DEV are not read."""
    margins: dict[str, dict[str, Any]] = {}
    for gate in gates:
        # The oracle is the target of an AUC gap: its distance to the base is the effect, not noise.
        if gate.margin is None or gate.statistic == "auc_gap" or not_applicable(gate, roles):
            continue
        name = "dev" if gate.cell == "test" else f"{gate.cell}_dev"
        bounds = {
            language: _bound(cells.get((language, name)), gate.metric, options, draws)
            for language in roles[gate.languages]
        }
        found = {language: bound for language, bound in bounds.items() if math.isfinite(bound)}
        language = max(found, key=lambda code: (found[code], code)) if found else ""
        bound = found.get(language, math.nan)
        widened = options.reset_margins and math.isfinite(bound) and bound > gate.margin
        missing = sorted(set(bounds) - set(found))
        margins[gate.name] = {
            "preset": gate.margin,
            "dev_bound": bound,
            "used": bound * options.headroom if widened else gate.margin,
            "headroom": options.headroom,
            "language": language,
            "note": _note(widened, missing, options.reset_margins),
        }
    return margins


def _bound(cell: Cell | None, metric: str, options: Options, draws: Draws) -> float:
    """Upper 1 - alpha bound of |reference oracle - base|; NaN when it cannot be measured."""
    if cell is None or metric not in cell.metrics:
        return math.nan
    pair = [options.base, options.reference]
    if any(arm not in cell.scores for arm in pair):
        return math.nan
    valid = cell.measured(pair, metric)
    if (~valid).sum() > options.max_dropped * len(valid):
        return math.nan
    base, oracle = (
        draws.of(cell).means(
            cell.column(arm, metric),
            valid=valid,
            seed_shares=draws.seeds(arm, len(cell.seeds[arm])),
        )
        for arm in pair
    )
    interval = bca_interval(oracle - base, 2 * options.alpha)
    return max(abs(interval.low), abs(interval.high))


def _note(widened: bool, missing: list[str], reset: bool) -> str:
    if not reset:
        return "resetting is switched off"
    said = "reset on DEV" if widened else "preset kept"
    return f"{said}; no DEV bound for {', '.join(missing)}" if missing else said
