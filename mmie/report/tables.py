"""What the page's tables and cards say, as plain values ready to be written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mmie.report import words
from mmie.report.inputs import REFERENCE, ReportInputs

Row = dict[str, Any]
STATUS_WORDS = {"passed": "passed", "failed": "failed", "not_measured": "not measured"}
SIGNS = {"passed": "✓", "failed": "✕", "not_measured": "?"}
LEVEL_METRICS = ("leak", "correct", "target_language", "gibberish", "bits_per_byte")
LEVEL_NAMES = ("leak rate", "correct", "right language", "gibberish", "bits per byte")


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
            for name, gate in _in_order(inputs, entry["gates"])
        ],
        "leaks": _leaks(inputs, arm),
    }


def _leaks(inputs: ReportInputs, arm: str) -> list[Row]:
    oracle = REFERENCE if REFERENCE in set(inputs.metrics["arm"]) else "oracle"
    found = []
    for language in inputs.roles["forget"]:
        values = [inputs.metric(name, language, "test", "leak") for name in ("base", arm, oracle)]
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
    }


def gate_name(name: str) -> str:
    """A gate's key as words."""
    return name.replace("_", " ")


def status(gate: Mapping[str, Any]) -> str:
    """Outcome of a gate: passed, failed or not_measured."""
    return str(gate.get("status") or ("passed" if gate["passed"] else "failed"))


def _in_order(inputs: ReportInputs, gates: Mapping[str, Any]) -> list[tuple[str, Any]]:
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
    what = {"transfer": "T", "ratio": "ratio"}.get(options["statistic"], "change")
    return f"{what} {sign} {words.number(threshold)}"


def _cell(gate: Mapping[str, Any] | None) -> Row:
    if gate is None:
        return {"status": "", "sign": "", "estimate": "", "hint": ""}
    return {"status": status(gate), "sign": SIGNS[status(gate)], "hint": words.sentence(gate["reason"]),
            "estimate": words.number(gate["estimate"])}  # fmt: skip


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
                for name, gate in _in_order(inputs, inputs.gates["arms"][arm]["gates"])
            ],
        }
        for arm in inputs.arms
    ]


def level_tables(inputs: ReportInputs) -> list[Row]:
    """Per language: main scores of every arm on direct TEST prompts with interval and seeds."""
    tables = []
    for language in inputs.languages:
        rows = []
        for arm in [*inputs.arms, REFERENCE]:
            cells = [_level(inputs, arm, language, metric) for metric in LEVEL_METRICS]
            if any(cell is not None for cell in cells):
                rows.append(
                    {"arm": arm, "cells": [cell or {"estimate": words.NOT_MEASURED} for cell in cells]}
                )
        if rows:
            tables.append({"language": words.language(language), "rows": rows})
    return tables


def _level(inputs: ReportInputs, arm: str, language: str, metric: str) -> Row | None:
    row = inputs.metric(arm, language, "test", metric)
    if row is None:
        return None
    seeds = inputs.seeds(arm, language, "test", metric)
    return {
        "estimate": words.number(row["estimate"]),
        "interval": "" if words.missing(row["ci_low"]) else words.interval(row["ci_low"], row["ci_high"]),
        "seeds": " · ".join(words.number(value) for value in seeds) if len(seeds) > 1 else "",
    }


def sae_table(inputs: ReportInputs) -> list[Row]:
    """Quality of every autoencoder, pooled and per language."""
    rows = []
    for name, quality in sorted(inputs.sae.items(), key=lambda item: (len(item[0]), item[0])):
        layer = name.removeprefix("layer")
        recovered = quality.get("loss_recovered", {})
        parts = [("all languages", "pooled", quality["pooled"])]
        described = quality.get("languages", {})
        order = [code for code in inputs.languages if code in described]
        order += sorted(set(described) - set(order))
        parts += [(words.language(code), code, described[code]) for code in order]
        for label, code, part in parts:
            rows.append({
                "layer": layer, "pooled": code == "pooled", "language": label,
                "fvu": words.number(part["fvu"]), "l0": words.number(part["l0"]),
                "dead": words.percent(part["dead_share"]),
                "recovered": words.number(recovered.get(code, {}).get("loss_recovered")),
                "supported": "" if part.get("supported", True) else "poorly described: no claim is made here",
            })  # fmt: skip
    return rows


def samples(inputs: ReportInputs) -> list[Row]:
    """Prompts with the answers of base, oracle and every other arm, by language."""
    order = [
        "base",
        "oracle",
        *inputs.studied,
        *(arm for arm in inputs.known if arm not in ("base", "oracle")),
    ]
    groups = []
    for language in inputs.languages:
        of_language = inputs.samples[inputs.samples["language"] == language]
        prompts = []
        for _, rows in of_language.groupby("example_id", sort=True):
            by_arm = {str(row["arm"]): row for row in rows.to_dict("records")}
            first = next(iter(by_arm.values()))
            prompts.append({
                "prompt": first["prompt"], "reference": first["reference"],
                "answers": [
                    {"arm": arm, "studied": arm in inputs.studied, "text": row["generation"],
                     "state": row["answer_state"],
                     "state_words": words.STATES.get(row["answer_state"], row["answer_state"])}
                    for arm in order if (row := by_arm.get(arm)) is not None
                ],
            })  # fmt: skip
        if prompts:
            groups.append({"language": words.language(language), "tag": words.language_tag(language),
                           "forget": language in inputs.roles["forget"], "prompts": prompts})  # fmt: skip
    return groups


def sizes(inputs: ReportInputs) -> tuple[list[str], list[Row]]:
    """Rows for fitting, then scored items (from the base's rows), each with their clusters, by language."""
    base = inputs.metrics[(inputs.metrics["arm"] == "base") & (inputs.metrics["metric"] == "leak")]
    splits = [name for name in words.CELLS if name in set(base["split"])]
    splits += sorted(set(base["split"]) - set(splits))
    found = {(row["language"], row["split"]): row for row in base.to_dict("records")}
    rows = []
    described = inputs.data.get("languages", {})
    for language in inputs.languages:
        fit = described.get(language, {}).get("splits", {}).get("fit")
        cells = [f"{words.count(fit['rows'])} in {words.count(fit['groups'])}" if fit else ""]
        for split in splits:
            row = found.get((language, split))
            cells.append(
                ""
                if row is None
                else f"{words.count(row['n_items'])} in {words.count(row.get('n_clusters'))}"
            )
        rows.append({"language": words.language(language), "cells": cells})
    return ["fitting", *(words.cell(split) for split in splits)], rows


def checklist(inputs: ReportInputs) -> Row:
    """The reporting checklist: families, margins, power, intervals, dropped items."""
    methods = pd.concat([inputs.metrics.get("ci_method", pd.Series(dtype=str)),
                         inputs.tests.get("ci_method", pd.Series(dtype=str))])  # fmt: skip
    statistics = inputs.config.get("statistics", {})
    return {
        "families": inputs.table("families").to_dict("records"),
        "margins": [
            {"gate": gate_name(name), "preset": words.number(row["preset"]),
             "bound": words.number(row.get("dev_bound")),
             "used": words.number(row["used"]), "note": row.get("note", "")}
            for name, row in _in_order(inputs, inputs.extras.get("margins", {}))
        ],
        "power": [
            {"gate": gate_name(row["gate"]), "language": words.language(row["language"]),
             "clusters": words.count(row["n_clusters"]), "each": words.number(row["items_per_cluster"]),
             "detectable": words.number(row["detectable"]),
             "points": words.percent(row.get("detectable_in_points")),
             "least_p": f"{row['least_p']:.2g}"}
            for row in inputs.table("power").to_dict("records")
        ],
        "methods": [(str(name), int(count)) for name, count in sorted(methods.value_counts().items())],
        "dropped": inputs.table("dropped").to_dict("records"),
        "contrasts": [
            {"gate": gate_name(row["gate"]), "language": words.language(row["language"]),
             "arm": row["arm"], "other": row["other"], "estimate": words.signed(row["estimate"]),
             "interval": words.interval(row["ci_low"], row["ci_high"]), "q": words.probability(row["q"])}
            for row in inputs.table("contrasts").to_dict("records")
        ],
        # What was used counts, not what the configuration of today says.
        "resamples": inputs.gates.get("options", {}).get("n_resamples", statistics.get("resamples")),
        "alpha": statistics.get("alpha"),
        "weight": statistics.get("weight"),
        "seeds": inputs.config.get("seeds", []),
    }  # fmt: skip


def arm_costs(inputs: ReportInputs) -> list[Row]:
    """What fitting each arm took, arms under study first."""
    costs = {str(row["arm"]): row for row in inputs.arm_costs.to_dict("records")}
    return [
        {
            "arm": arm,
            "seeds": words.count(cost["seeds"]),
            "seconds": f"{cost['fit_seconds']:.0f}",
            "memory": words.count(cost["peak_memory_mb"]),
            "stored": words.count(math.ceil(cost["bytes_stored"] / 1024)),
        }
        for arm in inputs.arms
        if (cost := costs.get(arm))
    ]


def stage_costs(inputs: ReportInputs) -> list[Row]:
    """Time and memory of every stage, the most expensive first."""
    return [
        {
            "stage": stage,
            "jobs": words.count(cost["jobs"]),
            "total": f"{cost['wall_sum_s'] / 60:.1f}",
            "median": f"{cost['wall_median_s']:.0f}",
            "longest": f"{cost['wall_max_s']:.0f}",
            "memory": words.count(cost["peak_memory_mib"]),
        }
        for stage, cost in inputs.stage_costs.iterrows()
    ]


def flattened(content: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as lines of name and value."""
    if isinstance(content, Mapping):
        return [
            line
            for key, value in sorted(content.items())
            for line in flattened(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(content, (list, tuple)):
        plain = all(not isinstance(item, (Mapping, list, tuple)) for item in content)
        if plain:
            return [(prefix, ", ".join(map(str, content)) or "none")]
        return [
            line for number, value in enumerate(content) for line in flattened(value, f"{prefix}[{number}]")
        ]
    return [(prefix, words.NOT_MEASURED if words.missing(content) else str(content))]
