"""Attacks in numbers: what came back, and the controls that say what it means."""

from __future__ import annotations

from typing import Any

from mmie.report import words
from mmie.report.inputs import REFERENCE, ReportInputs

Row = dict[str, Any]


def attack_names(inputs: ReportInputs) -> list[str]:
    """Attacks with results, relearning first, the removal of the intervention last."""
    order = list(words.ATTACKS)
    present = set(inputs.table("robustness")["attack"])
    return sorted(present, key=lambda name: (order.index(name) if name in order else len(order), name))


def attack_numbers(inputs: ReportInputs) -> list[Row]:
    """Every attack, language and arm: leak rate before and after, T, recovery, area under recovery."""
    table = inputs.table("robustness")
    table = table[table["metric"] == "leak"]
    found = {(r["attack"], r["language"], r["arm"]): r for r in table.to_dict("records")}
    arms = [*inputs.arms, REFERENCE]
    keys = [
        (attack, language, arm)
        for attack in attack_names(inputs)
        for language in inputs.languages
        for arm in arms
        if (attack, language, arm) in found
    ]
    rows = []
    for attack, language, arm in keys:
        row = found[attack, language, arm]
        rows.append({
            "attack": words.attack(attack), "language": words.language(language), "arm": arm,
            "studied": arm in inputs.studied, "first": arm == arms[0],
            "before": words.percent(row["before"]), "after": words.percent(row["after"]),
            "transfer": words.number(row["transfer"]),
            "interval": words.interval(row["transfer_low"], row["transfer_high"]),
            "recovery": words.number(row["recovery"]),
            "recovery_interval": words.interval(row["recovery_low"], row["recovery_high"]),
            "area": words.number(row["area"]),
            "reason": row["transfer_reason"] if words.missing(row["transfer"]) else "",
        })  # fmt: skip
    return rows


def steering(inputs: ReportInputs) -> list[Row]:
    """Leak rate after the difference in means is added back, beside a random push of the same size."""
    table = inputs.table("robustness")
    steered = table[(table["attack"] == "steer") & (table["metric"] == "leak")]
    found = {(r["arm"], r["language"]): r for r in steered.to_dict("records")}
    random = {(r["arm"], r["language"]): r for r in inputs.steering.to_dict("records")}
    rows = []
    for arm in inputs.arms:
        for language in inputs.roles["forget"]:
            row, control = found.get((arm, language)), random.get((arm, language))
            if row is None or control is None:
                continue
            rows.append({
                "arm": arm, "studied": arm in inputs.studied, "language": words.language(language),
                "place": str(control["variant"]).replace(", random direction", ""),
                "before": words.percent(row["before"]), "steered": words.percent(row["after"]),
                "random": words.percent(control["leak"]),
            })  # fmt: skip
    return rows
