"""What the run was made of: sizes, the reporting checklist, costs, settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mmie.metrics.cost import overhead
from mmie.report import words
from mmie.report.inputs import ReportInputs
from mmie.report.tables.gates import gate_name, in_order

Row = dict[str, Any]


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
            for name, row in in_order(inputs, inputs.extras.get("margins", {}))
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
        "contrasts": contrasts(inputs),
        "tolerance": statistics.get("matched_divergence"),
        # What was used counts, not what the configuration of today says.
        "resamples": inputs.gates.get("options", {}).get("n_resamples", statistics.get("resamples")),
        "alpha": statistics.get("alpha"),
        "weight": statistics.get("weight"),
        "seeds": inputs.config.get("seeds", []),
    }  # fmt: skip


def contrasts(inputs: ReportInputs) -> list[Row]:
    """Arms under study against each other; pairs that moved the kept languages equally far come first."""
    costs = {str(row["arm"]): row for row in inputs.arm_costs.to_dict("records")}
    table = inputs.table("contrasts")
    return [
        {
            "gate": gate_name(row["gate"]),
            "language": words.language(row["language"]),
            "arms": [
                {"name": row[side], "divergence": words.number(row[column]), **_size(costs.get(row[side]))}
                for side, column in (("arm", "divergence"), ("other", "divergence_other"))
            ],
            "matched": bool(row["matched"]),
            "estimate": words.signed(row["estimate"]),
            "interval": words.interval(row["ci_low"], row["ci_high"]),
            "q": words.probability(row["q"]),
        }
        for row in table.sort_values("matched", ascending=False, kind="stable").to_dict("records")
    ]


def _size(cost: Mapping[Any, Any] | None) -> Row:
    """Parameters that an arm is made of, and the blocks it acts on."""
    if cost is None:
        return {"parameters": words.NOT_MEASURED, "layers": ""}
    return {"parameters": words.count(cost["parameters"]), "layers": cost["layers"]}


def arm_costs(inputs: ReportInputs) -> list[Row]:
    """What fitting each arm took, arms under study first."""
    costs = {str(row["arm"]): row for row in inputs.arm_costs.to_dict("records")}
    return [
        {
            "arm": arm,
            "layers": cost["layers"],
            "studied": arm in inputs.studied,
            "seeds": words.count(cost["seeds"]),
            "seconds": f"{cost['fit_seconds']:.0f}",
            "memory": words.count(round(cost["peak_memory_mb"])),
            "stored": words.count(math.ceil(cost["bytes_stored"] / 1024)),
            "changed": words.NOT_MEASURED if words.missing(cost["changed"])
            else words.count(round(cost["changed"])),
            "of": "" if words.missing(cost["changed"])
            else f"{100 * cost['changed'] / cost['total']:.2f} % of {words.count(round(cost['total']))}",
            "added": words.count(cost["added"] if words.missing(cost["added"]) else round(cost["added"])),
            "norm": words.share(cost["relative_norm"]),
            "latency": words.NOT_MEASURED if words.missing(cost["seconds_per_token"])
            else f"{1000 * cost['seconds_per_token']:.2f}",
            "overhead": _overhead(cost["seconds_per_token"], costs.get("base", {}).get("seconds_per_token")),
        }
        for arm in inputs.arms
        if (cost := costs.get(arm))
    ]  # fmt: skip


def _overhead(seconds: float, base: float | None) -> str:
    """Latency against the base's: "+12 %"."""
    if words.missing(seconds) or words.missing(base) or base is None:
        return words.NOT_MEASURED
    return f"{100 * overhead(seconds, base):+.0f} %".replace("-", words.MINUS)


def sweeps(inputs: ReportInputs) -> list[Row]:
    """What a search on DEV chose for each arm, and how all its trials did."""
    return [
        {
            "arm": arm,
            "chosen": choice["chosen"] or "none",
            "trials": words.count(choice["trials"]),
            "admissible": words.count(choice["admissible"]),
            "median": words.number(choice["s_mem"]["median"]),
            "quartiles": words.interval(choice["s_mem"]["q25"], choice["s_mem"]["q75"]),
            "above": words.percent(choice["share_above_threshold"]),
            "threshold": words.number(choice["threshold"]),
        }
        for arm, found in inputs.sweeps.items()
        if (choice := found["choice"])
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
