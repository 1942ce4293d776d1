"""Verdict cards and the calibration that stands above them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmie.report import words
from mmie.report.inputs import ReportInputs
from mmie.report.tables.gates import SIGNS, gate_name, in_order, status

Row = dict[str, Any]


def verdicts(inputs: ReportInputs) -> list[Row]:
    """One card an arm under study; arms without rows say so and carry no number."""
    cards = [_verdict(inputs, arm) for arm in inputs.studied]
    for arm in inputs.not_run:
        kind = inputs.kind(arm)
        cards.append({
            "arm": arm, "decision": "NOT RUN", "look": "unknown", "kind": words.KINDS.get(kind, kind),
            "headline": "No results.", "reasons": [], "pips": [], "leaks": [],
        })  # fmt: skip
    return cards


def _verdict(inputs: ReportInputs, arm: str) -> Row:
    entry = inputs.gates["arms"][arm]
    kind = inputs.kind(arm)
    return {
        "arm": arm,
        "decision": entry["decision"],
        "look": "proceed" if entry["decision"] == "PROCEED" else "stop",
        "kind": words.KINDS.get(kind, kind),
        "headline": words.headline(entry),
        "reasons": [words.sentence(reason.partition(": ")[2] or reason) for reason in entry["reasons"]],
        "pips": [
            {"gate": gate_name(name), "status": status(gate), "sign": SIGNS[status(gate)]}
            for name, gate in in_order(inputs, entry["gates"])
        ],
        "leaks": _leaks(inputs, arm),
    }


def _leaks(inputs: ReportInputs, arm: str) -> list[Row]:
    found = []
    for language in inputs.roles["forget"]:
        values = [inputs.metric(name, language, "test", "leak") for name in ("base", arm, inputs.reference)]
        if values[1] is not None:
            shown = [words.percent(row["estimate"]) if row else words.NOT_MEASURED for row in values]
            found.append(
                {"language": words.language(language), "base": shown[0], "arm": shown[1], "oracle": shown[2]}
            )
    return found


def calibration(inputs: ReportInputs) -> Row:
    """Whether the arms with a known verdict got it."""
    content = inputs.gates["calibration"]
    checks = [
        {"arm": arm, "held": bool(check["held"]), "found": words.decision_in_words(check["found"]),
         "hint": f"must {check['expected']}; found {check['found']}"}
        for arm in [*inputs.known, *sorted(set(content.get("checks", {})) - set(inputs.known))]
        if (check := content.get("checks", {}).get(arm)) is not None
    ]  # fmt: skip
    return {
        "holds": bool(content.get("calibrated")),
        "checks": checks,
        "reasons": [words.sentence(reason) for reason in content.get("reasons", [])],
        "permuted": _permuted(content.get("permuted_labels") or {}),
        "hypotheses": _hypotheses(inputs),
    }


def _permuted(check: Mapping[str, Any]) -> Row:
    """The check with swapped labels: the arm for which chance came nearest to PROCEED."""
    arms = check.get("arms") or {}
    if not arms:
        return {"held": None, "said": "The check with swapped labels was not made."}
    worst = max(arms.values(), key=lambda entry: entry["bound"])
    said = (
        f"Chance alone, arm and base swapped at random {check['swaps']} times an arm: at most "
        f"{worst['proceeded']} of {check['swaps']} PROCEED (95 % bound of the rate "
        f"{words.share(worst['bound'])}, allowed {words.share(check['level'])})."
    )
    return {"held": bool(check["held"]), "said": said}


def _hypotheses(inputs: ReportInputs) -> str:
    """When the hypotheses were written, and how often TEST has been read."""
    written, readings = inputs.gates.get("hypotheses"), inputs.gates.get("test_reading")
    said = "The hypotheses were not written down beforehand."
    if written:
        said = f"Hypotheses {str(written['hash'])[:12]} were written {written['declared']}."
    if readings is None:
        return said + " How often TEST was read was not recorded."
    times = "one configuration" if readings == 1 else f"{words.count(readings)} configurations"
    return said + f" TEST has been read under {times} of this experiment so far."
