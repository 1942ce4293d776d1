"""From measurements to gates: families, correction, and one outcome a gate and arm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mmie.errors import InputError
from mmie.statistics.cells import Cell, Cells
from mmie.statistics.equivalence import inside_margin
from mmie.statistics.gate_table import ATTACKS, Gate
from mmie.statistics.measure import measure
from mmie.statistics.measurement import Measurement
from mmie.statistics.multiplicity import benjamini_hochberg, benjamini_yekutieli
from mmie.statistics.options import Draws, Options
from mmie.statistics.permutation import flips_for
from mmie.statistics.scores import MEMBERSHIP, MEMBERSHIP_SCORES
from mmie.statistics.sentences import reason

Roles = Mapping[str, Sequence[str]]
_ORDER = {"not_measured": 0, "failed": 1, "passed": 2}


@dataclass(frozen=True)
class Outcome:
    """A gate's outcome for one arm: that of its worst cell.

    Attributes:
        status: "passed", "failed" or "not_measured".
        code: reason of a STOP; empty when passed.
        worst: the measurement that decides.
        n_tests: cells the gate reads.
    """

    gate: Gate
    status: str
    code: str
    worst: Measurement
    n_tests: int

    def as_json(self) -> dict[str, Any]:
        """The gate as it stands in gates.json."""
        test = self.worst
        several = f" (the worst of {self.n_tests} tests)" if self.n_tests > 1 else ""
        return {
            "passed": self.status == "passed",
            "status": self.status,
            "code": self.code,
            "estimate": test.estimate,
            "ci_low": test.ci_low,
            "ci_high": test.ci_high,
            "ci_level": test.ci_level,
            "threshold": test.threshold,
            "margin": test.margin,
            "p": test.p,
            "q": test.q,
            "reason": test.reason.removesuffix(".") + several + ".",
            "required": self.gate.required,
            "family": self.gate.family,
            "metric": test.metric,
            "statistic": test.statistic,
            "direction": test.direction,
            "language": test.language,
            "cell": test.cell,
            "n_tests": self.n_tests,
        }


def not_applicable(gate: Gate, roles: Roles) -> str:
    """Why a gate is left out, by the configuration alone; empty when it is not."""
    if gate.languages not in roles:
        raise InputError(f"gates.{gate.name}.languages: no role {gate.languages!r}. Define it.")
    if gate.not_applicable:
        return gate.not_applicable
    if not roles[gate.languages]:
        return f"the configuration names no language for {gate.languages}"
    return ""


def run_tests(
    gates: Sequence[Gate],
    cells: Cells,
    attacked: Cells,
    arms: Sequence[str],
    roles: Roles,
    options: Options,
    draws: Draws,
) -> list[Measurement]:
    """Measure every applicable gate in every cell for every arm, corrected within families.

    Arms under study share the families; each calibration arm forms its own copy of each, so that
    adding a control changes no other arm's result.

    Returns:
        Measurements with q, status and a sentence, ordered by gate, language and arm.
    """
    used = [gate for gate in gates if not not_applicable(gate, roles)]
    parts = {gate.name: expanded(gate, options) for gate in used}
    studied = sorted(set(arms) - set(options.calibration))
    tests: list[Measurement] = []
    for gate in used:
        declared = max(1, len(studied)) * sum(
            len(roles[other.languages]) * len(parts[other.name])
            for other in used if other.family == gate.family
        )  # fmt: skip
        for part in parts[gate.name]:
            for language in roles[gate.languages]:
                cell = cell_of(part, language, cells, attacked)
                for arm in sorted(arms):
                    calibrates = arm in options.calibration
                    tests.append(
                        measure(
                            part, arm, language, cell,
                            non_members=cells.get((language, "holdout")),
                            family=f"{gate.family}:{arm}" if calibrates else gate.family,
                            together=[arm] if calibrates else studied,
                            options=options, draws=draws,
                            n_flips=flips_for(declared, options.alpha),
                        )
                    )  # fmt: skip
    return _judged(tests, {gate.name: gate for gate in used}, options)


def expanded(gate: Gate, options: Options) -> list[Gate]:
    """A gate as one gate for each attack and membership score that it reads, all of one name.

    A configured attack without rows stays in the list, and its tests are not measured. A gate on
    attacks where none is configured keeps one part, which cannot be measured either: leaving
    attacks out must not help an arm.
    """
    attacks = options.gating_attacks or (ATTACKS,)
    parts = [replace(gate, cell=attack) for attack in attacks] if gate.cell == ATTACKS else [gate]
    if gate.metric == MEMBERSHIP:
        parts = [replace(part, metric=score) for part in parts for score in MEMBERSHIP_SCORES]
    return parts


def outcomes(tests: Sequence[Measurement], gates: Sequence[Gate], arm: str) -> dict[str, Outcome]:
    """One outcome a gate: passed only if every cell passes; the worst cell is shown.

    Efficacy that fails is `no_effect` when the corrected test does not reject, and otherwise the
    gate's own reason. An arm without any effect has nothing that an attack could undo: its
    robustness gates fail for `no_effect` too.
    """
    found: dict[str, Outcome] = {}
    for gate in gates:
        own = [test for test in tests if test.arm == arm and test.gate == gate.name]
        if not own:
            continue
        worst = min(
            own,
            key=lambda test: (_ORDER[test.status], _slack(test), test.language, test.cell, test.metric),
        )
        code = ""
        if worst.status == "not_measured":
            code = "not_measured"
        elif worst.status == "failed":
            silent = gate.family == "efficacy" and not worst.rejected
            code = "no_effect" if silent else gate.stop_reason
        found[gate.name] = Outcome(gate, worst.status, code, worst, len(own))
    efficacy = [item.code for item in found.values() if item.gate.family == "efficacy"]
    if efficacy and all(code == "no_effect" for code in efficacy):
        found = {
            name: replace(item, code="no_effect")
            if item.code == "not_robust" and not item.worst.rejected else item
            for name, item in found.items()
        }  # fmt: skip
    return found


def families(tests: Sequence[Measurement]) -> pd.DataFrame:
    """Declared, finite and missing tests of every family copy, and how many were rejected."""
    rows = [
        {
            "family": family,
            "declared": len(own),
            "finite": sum(math.isfinite(test.p) for test in own),
            "missing": sum(not math.isfinite(test.p) for test in own),
            "rejected": sum(test.rejected for test in own),
        }
        for family, own in sorted(_by_family(tests).items())
    ]
    return pd.DataFrame(rows, columns=["family", "declared", "finite", "missing", "rejected"])


def as_table(tests: Sequence[Measurement]) -> pd.DataFrame:
    """Measurements as the rows of tests.parquet."""
    columns = list(Measurement.__dataclass_fields__)
    return pd.DataFrame([asdict(test) for test in tests], columns=columns)


def cell_of(gate: Gate, language: str, cells: Cells, attacked: Cells) -> Cell | None:
    """Where a gate reads a language; None when nothing was evaluated there."""
    return (attacked if gate.of_attack else cells).get((language, gate.cell))


def _by_family(tests: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    grouped: dict[str, list[Measurement]] = {}
    for test in tests:
        grouped.setdefault(test.family, []).append(test)
    return grouped


def _judged(tests: list[Measurement], gates: Mapping[str, Gate], options: Options) -> list[Measurement]:
    correct = benjamini_hochberg if options.correction == "bh" else benjamini_yekutieli
    adjusted: dict[int, float] = {}
    for own in _by_family(tests).values():
        q_values = correct(np.array([test.p for test in own]))
        adjusted.update({id(test): float(q) for test, q in zip(own, q_values, strict=True)})
    judged = []
    for test in tests:
        q = adjusted[id(test)]
        rejected = math.isfinite(q) and q <= options.alpha
        judged_test = replace(test, q=q, rejected=rejected)
        status = _status(judged_test, gates[test.gate])
        judged_test = replace(judged_test, status=status)
        sentence = reason(judged_test, options.language_names)
        judged.append(replace(judged_test, reason=sentence))
    return judged


def _status(test: Measurement, gate: Gate) -> str:
    if test.reason or not (math.isfinite(test.estimate) and math.isfinite(test.p)):
        return "not_measured"
    if gate.margin is not None:
        if math.isnan(test.ci_low) or math.isnan(test.ci_high):
            return "not_measured"
        inside = inside_margin(test.ci_low, test.ci_high, gate.margin, gate.harm)
        return "passed" if test.rejected and inside and _slack(test) >= 0 else "failed"
    return "passed" if test.rejected and _slack(test) >= 0 else "failed"


def _slack(test: Measurement) -> float:
    """Distance of the estimate to its threshold, below 0 on the wrong side; NaN sorts first."""
    if math.isnan(test.estimate):
        return -math.inf
    if test.direction == "within":
        limit = test.threshold if math.isnan(test.margin) else test.margin
        return limit - abs(test.estimate)
    side = 1.0 if test.direction == "at_least" else -1.0
    return side * (test.estimate - test.threshold)
