"""From aligned scores to tests, gates, calibration and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mmie.statistics.cells import Cells
from mmie.statistics.gate_table import Gate
from mmie.statistics.gates import Roles, not_applicable, outcomes, run_tests
from mmie.statistics.measurement import Measurement
from mmie.statistics.options import Draws, Options
from mmie.statistics.permuted import permuted_labels
from mmie.statistics.verdict import calibrate, decide, final


def judge(
    cells: Cells,
    attacked: Cells,
    table: Sequence[Gate],
    roles: Roles,
    options: Options,
    draws: Draws,
) -> tuple[list[Measurement], dict[str, Any]]:
    """Measure every gate for every arm and decide.

    Args:
        cells, attacked: aligned evaluation and attack scores.
        table: gates with the margins to use.
        roles: languages by role.

    Returns:
        All tests, and the decisions as they stand in gates.json: "experiment", "arms",
        "calibration", "options".
    """
    arms = arms_of(cells, options)
    tests = run_tests(table, cells, attacked, arms, roles, options, draws)
    found = {arm: outcomes(tests, table, arm) for arm in arms}
    decisions = {arm: decide(arm, found[arm], tests, options) for arm in arms}
    permuted = permuted_labels(table, cells, attacked, arms, roles, options, draws)
    calibration = calibrate(decisions, found, tests, table, options, permuted)
    left_out = {gate.name: why for gate in table if (why := not_applicable(gate, roles))}
    return tests, {
        "experiment": options.experiment,
        "arms": {
            arm: {
                **final(decisions[arm], calibration, options),
                "calibration": arm in options.calibration,
                "gates": {name: item.as_json() for name, item in found[arm].items()},
                "not_applicable": left_out,
            }
            for arm in arms
        },
        "calibration": calibration,
        "options": asdict(options),
    }


def arms_of(cells: Cells, options: Options) -> list[str]:
    """Every arm with a verdict, sorted: all but the oracle that scores are normalised by."""
    return sorted({arm for cell in cells.values() for arm in cell.scores} - {options.reference})
