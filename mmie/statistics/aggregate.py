"""From evaluation rows to metrics, tests and gates: the whole analysis in one call."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from mmie.errors import InputError
from mmie.statistics.cells import Cell, Cells, attack_cells, build_cells
from mmie.statistics.effects import paired_dz, sample_sd
from mmie.statistics.gate_table import Gate, read_gates, with_margins
from mmie.statistics.gates import Roles, as_table, families, not_applicable, outcomes, run_tests
from mmie.statistics.intervals import bca_interval
from mmie.statistics.levels import answer_states, attack_curves, levels, transfer_matrix
from mmie.statistics.margins import margins_from_cells
from mmie.statistics.measurement import Measurement
from mmie.statistics.multiplicity import benjamini_hochberg
from mmie.statistics.options import Draws, Options
from mmie.statistics.permutation import sign_flip
from mmie.statistics.power import intra_cluster_correlation, power_statement
from mmie.statistics.verdict import calibrate, decide, final


@dataclass(frozen=True)
class Summary:
    """The analysis of an experiment.

    Attributes:
        metrics: arm, language, split, metric, estimate, ci_low, ci_high, n_seeds, n_items,
            direction, and how the interval was made.
        tests: one row a test, with family, p, q, status and a sentence.
        gates: the content of gates.json.
        extras: tables `power`, `dropped`, `per_seed`, `answer_states`, `transfer`,
            `attack_curves`, `families`, `contrasts`; dictionary `margins`.
    """

    metrics: pd.DataFrame
    tests: pd.DataFrame
    gates: dict[str, Any]
    extras: dict[str, Any]


def aggregate(
    evaluation: pd.DataFrame,
    attacks: pd.DataFrame | None,
    roles: Roles,
    gates: Iterable[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]],
    options: Options | None = None,
    *,
    margins: Mapping[str, Mapping[str, Any]] | None = None,
) -> Summary:
    """Analyse an experiment. The order of rows, arms and languages in the input does not matter.

    Args:
        evaluation: evaluation rows of all arms and seeds, with columns `arm` and `seed`.
        attacks: attack rows, None without attacks.
        roles: languages of "forget", "forget_native", "forget_other_scripts", "retain",
            "neighbours", "kept".
        gates: the gate table.
        options: choices of the analysis.
        margins: result of `calibrate_margins`; computed from the DEV rows by default.

    Raises:
        InputError: arms scored on different items, missing columns, an unusable gate table.
    """
    options = options or Options()
    roles = {role: sorted(languages) for role, languages in roles.items()}
    table = read_gates(gates)
    cells = build_cells(evaluation)
    _same_coverage(cells, options)
    attacked = attack_cells(attacks, at=options.attack_at)
    draws = Draws(options)
    if margins is None:
        margins = margins_from_cells(cells, table, roles, options, draws)
    table = with_margins(table, margins)
    arms = sorted({arm for cell in cells.values() for arm in cell.scores} - {options.reference})

    tests = run_tests(table, cells, attacked, arms, roles, options, draws)
    metrics, per_seed = levels(cells, roles.get("forget", []), options, draws)
    content = _gates_json(tests, table, arms, roles, options)
    counts = families(tests)
    power = _power(tests, table, cells, roles, options)
    content |= {
        "margins": dict(margins),
        "families": counts.to_dict("records"),
        "power": power.to_dict("records"),
    }
    dropped = [
        {"arm": test.arm, "gate": test.gate, "language": test.language, "metric": test.metric,
         "n_dropped": test.n_dropped, "n_items": test.n_items}
        for test in tests if test.n_dropped
    ]  # fmt: skip
    extras = {
        "power": power,
        "dropped": pd.DataFrame(
            dropped, columns=["arm", "gate", "language", "metric", "n_dropped", "n_items"]
        ),
        "per_seed": per_seed,
        "answer_states": answer_states(evaluation),
        "transfer": transfer_matrix(cells, options, draws),
        "attack_curves": attack_curves(attacks),
        "families": counts,
        "contrasts": _contrasts(table, cells, arms, roles, options, draws),
        "margins": dict(margins),
    }
    return Summary(metrics, as_table(tests), content, extras)


def _same_coverage(cells: Cells, options: Options) -> None:
    """Every arm is scored wherever the base is; the reference oracle may be scored in part."""
    everywhere = {arm for cell in cells.values() for arm in cell.scores} - {options.reference}
    if options.base not in everywhere:
        raise InputError(f"evaluation: no rows of {options.base!r}. Everything is measured against the base.")
    for (language, name), cell in sorted(cells.items()):
        absent = sorted(everywhere - set(cell.scores))
        if absent:
            raise InputError(
                f"evaluation, {language}, {name}: no rows of arm {absent[0]!r}. "
                "Evaluate all arms on the same prompts."
            )


def _gates_json(
    tests: Sequence[Measurement],
    table: Sequence[Gate],
    arms: Sequence[str],
    roles: Roles,
    options: Options,
) -> dict[str, Any]:
    found = {arm: outcomes(tests, table, arm) for arm in arms}
    decisions = {arm: decide(arm, found[arm], tests, options) for arm in arms}
    calibration = calibrate(decisions, found, tests, table, options)
    left_out = {gate.name: why for gate in table if (why := not_applicable(gate, roles))}
    return {
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


def _power(
    tests: Sequence[Measurement],
    table: Sequence[Gate],
    cells: Cells,
    roles: Roles,
    options: Options,
) -> pd.DataFrame:
    """Power of every efficacy cell, from the difference between oracle and base."""
    families_of = {test.family for test in tests}
    declared = sum(test.family == "efficacy" for test in tests) if "efficacy" in families_of else 1
    rows = []
    for gate in table:
        if gate.family != "efficacy" or not_applicable(gate, roles):
            continue
        for language in roles[gate.languages]:
            cell = cells.get((language, gate.cell))
            if cell is None or gate.metric not in cell.metrics:
                continue
            sd, correlation = _spread(cell, gate.metric, options)
            statement = power_statement(
                cell.n_clusters, len(cell.items) / cell.n_clusters,
                declared=declared, correlation=options.correlation, alpha=options.alpha,
            )  # fmt: skip
            rows.append({
                "gate": gate.name, "language": language, **asdict(statement),
                "estimated_correlation": correlation, "sd": sd,
                "detectable_in_points": statement.detectable * sd,
            })  # fmt: skip
    return pd.DataFrame(rows)


def _spread(cell: Cell, metric: str, options: Options) -> tuple[float, float]:
    if options.reference not in cell.scores:
        return math.nan, math.nan
    valid = cell.measured([options.base, options.reference], metric)
    difference = (
        cell.column(options.reference, metric).mean(axis=(1, 2))
        - cell.column(options.base, metric).mean(axis=(1, 2))
    )[valid]
    _, codes = np.unique(np.asarray(cell.clusters)[valid], return_inverse=True)
    return sample_sd(difference), intra_cluster_correlation(difference, codes)


def _contrasts(
    table: Sequence[Gate],
    cells: Cells,
    arms: Sequence[str],
    roles: Roles,
    options: Options,
    draws: Draws,
) -> pd.DataFrame:
    """Planned paired comparisons between arms under study, a family of their own.

    There is no winner without one: two arms are compared on the same items, per efficacy cell.
    """
    studied = [arm for arm in arms if arm not in options.calibration]
    rows = []
    for gate in table:
        if gate.family != "efficacy" or gate.of_attack or not_applicable(gate, roles):
            continue
        for language in roles[gate.languages]:
            cell = cells.get((language, gate.cell))
            if cell is None or gate.metric not in cell.metrics:
                continue
            valid = cell.measured(studied, gate.metric)
            if (~valid).sum() > options.max_dropped * len(valid):
                continue
            resampling = draws.of(cell)
            scores = {arm: cell.column(arm, gate.metric) for arm in studied}
            means = {
                arm: resampling.means(values, valid=valid, seed_shares=draws.seeds(arm, values.shape[1]))
                for arm, values in scores.items()
            }
            for index, left in enumerate(studied):
                for right in studied[index + 1 :]:
                    difference = means[left] - means[right]
                    interval = bca_interval(difference, options.alpha)
                    items = scores[left].mean(axis=(1, 2)) - scores[right].mean(axis=(1, 2))
                    clusters = resampling.cluster_means(items, valid)
                    rows.append({
                        "gate": gate.name, "language": language, "metric": gate.metric,
                        "arm": left, "other": right, "estimate": float(difference.point[0]),
                        "ci_low": interval.low, "ci_high": interval.high,
                        "effect_dz": paired_dz(clusters),
                        "p": sign_flip(
                            clusters,
                            names=(options.experiment, "contrast", gate.metric, language, gate.cell),
                        ),
                    })  # fmt: skip
    columns = ["gate", "language", "metric", "arm", "other", "estimate", "ci_low", "ci_high",
               "effect_dz", "p"]  # fmt: skip
    contrasts = pd.DataFrame(rows, columns=columns)
    contrasts["q"] = benjamini_hochberg(contrasts["p"].to_numpy(dtype=float))
    return contrasts
