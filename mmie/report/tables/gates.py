"""Gates: one matrix of all arms, one full table an arm, and every test behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmie.report import words
from mmie.report.inputs import ReportInputs
from mmie.statistics.scores import in_words

Row = dict[str, Any]
STATUS_WORDS = {"passed": "passed", "failed": "failed", "not_measured": "not measured"}
SIGNS = {"passed": "✓", "failed": "✕", "not_measured": "?"}


def gate_name(name: str) -> str:
    """A gate's key as words."""
    return name.replace("_", " ")


def status(gate: Mapping[str, Any]) -> str:
    """Outcome of a gate: passed, failed or not_measured."""
    return str(gate.get("status") or ("passed" if gate["passed"] else "failed"))


def in_order(inputs: ReportInputs, gates: Mapping[str, Any]) -> list[tuple[str, Any]]:
    order = list(inputs.config.get("gates", {}))
    return sorted(
        gates.items(), key=lambda item: (order.index(item[0]) if item[0] in order else len(order), item[0])
    )


def gate_matrix(inputs: ReportInputs) -> list[Row]:
    """One row a configured gate: its question, and the outcome for every arm."""
    rows = []
    for name, options in inputs.config.get("gates", {}).items():
        cells = [_cell(inputs.gates["arms"][arm]["gates"].get(name)) for arm in inputs.arms]
        reason = options.get("not_applicable") or next(
            (entry["not_applicable"][name] for entry in inputs.gates["arms"].values()
             if name in entry.get("not_applicable", {})), "",
        )  # fmt: skip
        rows.append({"name": gate_name(name), "question": options.get("question", ""), "cells": cells,
                     "required": options.get("required", True), "left_out": reason,
                     "rule": _rule(inputs, name, options)})  # fmt: skip
    return rows


def _rule(inputs: ReportInputs, name: str, options: Mapping[str, Any]) -> str:
    sign = {"at_least": "≥", "at_most": "≤"}.get(options["direction"], "within ±")
    margin = inputs.extras.get("margins", {}).get(name, {})
    threshold = options["threshold"]
    if not words.missing(margin.get("used")):
        threshold = math.copysign(float(margin["used"]), threshold)
    what = {"transfer": "T", "ratio": "ratio", "auc_gap": "AUC gap"}.get(options["statistic"], "change")
    return f"{what} {sign} {words.number(threshold)}"


def _cell(gate: Mapping[str, Any] | None) -> Row:
    if gate is None:
        return {"status": "", "sign": "", "estimate": "", "hint": "", "where": ""}
    return {"status": status(gate), "sign": SIGNS[status(gate)], "hint": words.sentence(gate["reason"]),
            "estimate": words.number(gate["estimate"]), "where": worst_of(gate)}  # fmt: skip


def worst_of(gate: Mapping[str, Any]) -> str:
    """Which attack or membership score the shown estimate is from, where a gate reads several."""
    if gate.get("cell") in words.ATTACKS:
        return words.attack(str(gate["cell"]))
    return words.MEMBERSHIP.get(str(gate.get("metric")), "")


def gate_details(inputs: ReportInputs) -> list[Row]:
    """The full gate table of every arm."""
    return [
        {
            "arm": arm,
            "studied": arm in inputs.studied,
            "decision": inputs.gates["arms"][arm]["decision"],
            "look": "proceed" if inputs.gates["arms"][arm]["decision"] == "PROCEED" else "stop",
            "rows": [
                {
                    "gate": gate_name(name),
                    "status": STATUS_WORDS[status(gate)],
                    "look": status(gate),
                    "sign": SIGNS[status(gate)],
                    "estimate": words.number(gate["estimate"]),
                    "interval": words.interval(gate["ci_low"], gate["ci_high"]),
                    "threshold": words.number(gate["threshold"]),
                    "p": words.probability(gate["p"]),
                    "q": words.probability(gate["q"]),
                    "reason": words.sentence(gate["reason"]),
                }
                for name, gate in in_order(inputs, inputs.gates["arms"][arm]["gates"])
            ],
            "tests": _tests(inputs, arm),
        }
        for arm in inputs.arms
    ]


def _tests(inputs: ReportInputs, arm: str) -> list[Row]:
    """Every test behind the gates of an arm, in the order of the gates."""
    own = inputs.tests[inputs.tests["arm"] == arm]
    order = list(inputs.config.get("gates", {}))
    rows = sorted(
        own.to_dict("records"),
        key=lambda row: (
            order.index(row["gate"]) if row["gate"] in order else len(order),
            row["gate"], row["cell"], row["metric"], row["language"],
        ),
    )  # fmt: skip
    return [
        {
            "gate": gate_name(row["gate"]),
            "cell": words.cell(row["cell"]),
            "score": words.MEMBERSHIP.get(row["metric"], in_words(row["metric"])),
            "language": words.language(row["language"]),
            "look": row["status"],
            "sign": SIGNS[row["status"]],
            "estimate": words.number(row["estimate"]),
            "interval": words.interval(row["ci_low"], row["ci_high"]),
            "detectable": words.number(row["detectable"]),
            "p": words.probability(row["p"]),
            "q": words.probability(row["q"]),
            "why": words.sentence(row["reason"]) if row["status"] == "not_measured" else "",
        }
        for row in rows
    ]
