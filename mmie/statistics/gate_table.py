"""The gates of an experiment, read from its table: metric, languages, statistic, threshold, test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mmie.errors import InputError
from mmie.statistics.equivalence import Harm
from mmie.statistics.scores import harm_of

FAMILIES = ("efficacy", "preservation", "robustness", "membership")
EVALUATION_CELLS = ("test", "test_new_wording", "dev", "holdout", "mixed", "adversarial")
ATTACKS = "attacks"  # the cell of a gate that reads every configured attack
ROLES = ("forget", "forget_native", "forget_other_scripts", "retain", "neighbours", "kept")
STOP_REASONS = (
    "no_effect", "below_threshold", "utility_loss", "neighbour_loss", "collapsed",
    "language_confusion", "membership", "not_robust", "not_measured", "underpowered",
    "uncalibrated",
)  # fmt: skip
_CHOICES = {
    "statistic": ("transfer", "ratio", "difference", "worst_seed_difference", "auc_gap"),
    "test": ("sign_flip", "non_inferiority", "tost"),
    "direction": ("at_least", "at_most", "within"),
    "family": FAMILIES,
    "languages": ROLES,
    "stop_reason": STOP_REASONS,
}
_LETTERS = {"E": "efficacy", "P": "preservation", "R": "robustness", "M": "membership"}
_DEFAULT_STOP = {
    "efficacy": "below_threshold",
    "preservation": "utility_loss",
    "robustness": "not_robust",
    "membership": "membership",
}


@dataclass(frozen=True)
class Gate:
    """One condition of the verdict.

    Attributes:
        name: key in the results.
        metric: score column; "membership" for each attack score of membership, one test each.
        languages: role whose languages it reads, one test each.
        cell: "test", "mixed", "adversarial", the name of an attack, or "attacks" for each
            configured one, one test each.
        statistic: "transfer", "ratio", "difference" or "worst_seed_difference" (arm - base), or
            "auc_gap" (AUC of the arm minus AUC of the oracle, members against holdout facts).
        direction: "at_least", "at_most" or "within".
        threshold: effect to reach; for preservation the tolerated change with its sign.
        margin: tolerated harm, above 0; None for tests of an effect.
        test: "sign_flip" for an effect, "non_inferiority" or "tost" for preservation.
        family: tests of one family are corrected together.
        stop_reason: reason of a STOP when it fails.
        required: whether PROCEED needs it.
        not_applicable: why it is left out, None when it is not.
    """

    name: str
    metric: str
    languages: str
    cell: str
    statistic: str
    direction: str
    threshold: float
    margin: float | None
    test: str
    family: str
    stop_reason: str
    required: bool = True
    not_applicable: str | None = None

    @property
    def harm(self) -> Harm | None:
        """The side that a preservation test watches; None for both."""
        if self.test == "tost":
            return None
        sides: dict[str, Harm] = {"at_least": "down", "at_most": "up"}
        return sides.get(self.direction) or harm_of(self.metric)

    @property
    def of_attack(self) -> bool:
        """Whether it reads attacked models."""
        return self.cell not in EVALUATION_CELLS


def read_gates(table: Iterable[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]]) -> list[Gate]:
    """Read a gate table: a list of gates with `name`, or a mapping by name.

    Raises:
        InputError: an unknown value, a margin that is not above 0, a repeated name, no required
            efficacy gate (leaving gates out must not help an arm).
    """
    rows = (
        [{"name": name, **row} for name, row in table.items()]
        if isinstance(table, Mapping)
        else [dict(row) for row in table]
    )
    gates = [_read(row) for row in rows]
    names = [gate.name for gate in gates]
    if len(set(names)) != len(names):
        raise InputError("gates: a name stands twice. Give every gate its own.")
    if not any(gate.required and gate.family == "efficacy" and not gate.not_applicable
               for gate in gates):  # fmt: skip
        raise InputError("gates: no required gate of family efficacy. Add one.")
    return gates


def _read(row: Mapping[str, Any]) -> Gate:
    name = str(row.get("name", "?"))

    def value(key: str, default: str | None = None) -> str:
        found = row.get(key) if row.get(key) is not None else default
        if found is None:
            raise InputError(f"gates.{name}: {key} is missing. Add it.")
        if key in _CHOICES and found not in _CHOICES[key]:
            known = ", ".join(_CHOICES[key])
            raise InputError(f"gates.{name}.{key}: {found!r} is not known. Use one of: {known}.")
        return str(found)

    statistic = str(row.get("statistic", ""))
    cell = row.get("cell") or row.get("attack") or row.get("kind") or row.get("split") or "test"
    if statistic == "attack_transfer":
        row = {**row, "statistic": "transfer"}
        cell = row.get("attack") or (cell if cell not in EVALUATION_CELLS else "relearn")
    if cell == "direct":
        cell = row.get("split") or "test"
    if row.get("family") in _LETTERS:
        row = {**row, "family": _LETTERS[str(row["family"])]}
    test, direction = value("test"), value("direction")
    preserves = test != "sign_flip"
    threshold, margin = row.get("threshold"), row.get("margin")
    if preserves:
        margin = abs(float(margin if margin is not None else threshold or 0.0))
        if margin == 0.0:
            raise InputError(f"gates.{name}.threshold: 0 is no margin. Give the tolerated harm.")
        threshold = -margin if direction == "at_least" else margin
    elif threshold is None:
        raise InputError(f"gates.{name}: threshold is missing. Add it.")
    else:
        margin = None
    _check_pair(name, test, value("statistic"))
    return Gate(
        name=name,
        metric=value("metric"),
        languages=value("languages"),
        cell=str(cell),
        statistic=value("statistic"),
        direction=direction,
        threshold=float(threshold),
        margin=margin,
        test=test,
        family=value("family"),
        stop_reason=value("stop_reason", _DEFAULT_STOP.get(str(row.get("family")), "not_measured")),
        required=bool(row.get("required", True)),
        not_applicable=row.get("not_applicable") or row.get("not_applicable_reason"),
    )


def _check_pair(name: str, test: str, statistic: str) -> None:
    """Refuse a test that does not exist for a statistic."""
    if statistic == "auc_gap":
        if test != "tost":
            raise InputError(f"gates.{name}.test: {test} does not test an auc_gap. Use tost.")
    elif test != "sign_flip" and statistic not in ("difference", "worst_seed_difference"):
        raise InputError(f"gates.{name}.test: {test} tests a difference. Use sign_flip for ratios.")


def with_margins(gates: Iterable[Gate], margins: Mapping[str, Mapping[str, Any]]) -> list[Gate]:
    """Gates whose margin was reset on DEV (`margins.calibrate_margins`) get the margin used."""
    from dataclasses import replace

    changed = []
    for gate in gates:
        if gate.margin is not None and gate.name in margins:
            used = float(margins[gate.name]["used"])
            sign = -1.0 if gate.direction == "at_least" else 1.0
            gate = replace(gate, margin=used, threshold=sign * used)
        changed.append(gate)
    return changed
