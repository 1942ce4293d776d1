"""From evaluation rows to metrics, tests and gates: the whole analysis in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mmie.errors import InputError
from mmie.statistics.cells import Cells, attack_cells, build_cells
from mmie.statistics.design import contrasts_table, power_table
from mmie.statistics.gate_table import read_gates, with_margins
from mmie.statistics.gates import Roles, as_table, families
from mmie.statistics.hypotheses import check
from mmie.statistics.identification import identification
from mmie.statistics.judge import arms_of, judge
from mmie.statistics.levels import answer_states, attack_curves, levels, transfer_matrix
from mmie.statistics.margins import margins_from_cells
from mmie.statistics.matched import with_divergences
from mmie.statistics.measurement import Measurement
from mmie.statistics.membership import auc_levels, membership_table
from mmie.statistics.options import Draws, Options
from mmie.statistics.robustness import robustness
from mmie.statistics.written_forms import script_matrix


@dataclass(frozen=True)
class Summary:
    """The analysis of an experiment.

    Attributes:
        metrics: arm, language, split, metric, estimate, ci_low, ci_high, n_seeds, n_items,
            direction, and how the interval was made.
        tests: one row a test, with family, p, q, status and a sentence.
        gates: the content of gates.json.
        extras: tables `power`, `dropped`, `per_seed`, `answer_states`, `transfer`, `scripts`,
            `identification`, `attack_curves`, `robustness`, `membership`, `families`, `contrasts`; dictionary
            `margins`.
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
    hypotheses: Mapping[str, Any] | None = None,
    identifier: Mapping[str, Mapping[str, Any]] | None = None,
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
        hypotheses: content of hypotheses.json; what is tested must be what it says.
        identifier: content of language/reliability.json: measured errors of language identification.

    Raises:
        InputError: arms scored on different items, missing columns, an unusable gate table, other
            hypotheses than the written ones.
    """
    options = options or Options()
    written = None if hypotheses is None else check(hypotheses, roles, gates, options)
    roles = {role: sorted(languages) for role, languages in roles.items()}
    table = read_gates(gates)
    cells = build_cells(evaluation)
    _same_coverage(cells, options)
    attacked = attack_cells(attacks, at=options.attack_at)
    draws = Draws(options)
    if margins is None:
        margins = margins_from_cells(cells, table, roles, options, draws)
    table = with_margins(table, margins)

    tests, content = judge(cells, attacked, table, roles, options, draws)
    metrics, per_seed = levels(cells, roles.get("forget", []), options, draws)
    membership = membership_table(cells, options, draws)
    contrasts = contrasts_table(table, cells, arms_of(cells, options), roles, options, draws)
    counts, power = families(tests), power_table(tests, table, cells, roles, options)
    content |= {
        "hypotheses": written,
        "margins": dict(margins),
        "families": counts.to_dict("records"),
        "power": power.to_dict("records"),
    }
    extras = {
        "power": power,
        "dropped": _dropped(tests),
        "per_seed": per_seed,
        "answer_states": answer_states(evaluation),
        "identification": identification(evaluation, identifier),
        "transfer": transfer_matrix(cells, options, draws),
        "scripts": script_matrix(cells, roles.get("forget", []), options, draws),
        "attack_curves": attack_curves(attacks),
        "robustness": robustness(attacks, attacked, cells, options, draws),
        "membership": membership,
        "families": counts,
        "contrasts": with_divergences(contrasts, cells, roles, options),
        "margins": dict(margins),
    }
    if len(membership):
        metrics = pd.concat([metrics, auc_levels(membership)], ignore_index=True)
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


def _dropped(tests: Iterable[Measurement]) -> pd.DataFrame:
    columns = ["arm", "gate", "language", "metric", "n_dropped", "n_items"]
    rows = [[getattr(test, name) for name in columns] for test in tests if test.n_dropped]
    return pd.DataFrame(rows, columns=columns)
