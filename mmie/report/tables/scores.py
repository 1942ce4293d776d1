"""Scores by language and arm, and what the models wrote."""

from __future__ import annotations

from typing import Any

from mmie.report import words
from mmie.report.inputs import REFERENCE, ReportInputs

Row = dict[str, Any]
LEVEL_METRICS = ("leak", "correct", "in_language", "gibberish", "bits_per_byte")
LEVEL_NAMES = ("leak rate", "correct", "right language", "gibberish", "bits per byte")


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
    # A rate that rests on language identification is never shown without its abstentions.
    open_ = inputs.metric(arm, language, "test", "undetermined") if metric == "in_language" else None
    return {
        "estimate": words.number(row["estimate"]),
        "note": row["reason"] if words.missing(row["estimate"])
        else f"language open {words.share(open_['estimate'])}" if open_ else "",
        "interval": "" if words.missing(row["ci_low"]) else words.interval(row["ci_low"], row["ci_high"]),
        "seeds": " · ".join(words.number(value) for value in seeds) if len(seeds) > 1 else "",
    }  # fmt: skip


def identifier(inputs: ReportInputs) -> list[Row]:
    """How often language identification is right, measured on texts of known language."""
    return [
        {
            "language": words.language(code),
            "n": words.count(found["n"]),
            "right": words.share(found["right"]),
            "wrong": words.share(found["wrong"]),
            "abstained": words.share(found["abstained"]),
            "false": words.share(found["false_positives"]),
        }
        for code in inputs.languages
        if (found := inputs.reliability.get(code))
    ]


def judged(inputs: ReportInputs) -> Row:
    """A language model's second opinion on answers, where the target `judge` was run."""
    if not inputs.judged:
        return {}
    rows = [
        {
            "arm": arm,
            "asked": words.count(found["asked"]),
            "missing": words.count(found["missing"]),
            "agreement": words.share(found["agreement"]),
            "judge": words.share(found["leak_by_judge"]),
            "evaluation": words.share(found["leak_by_evaluation"]),
        }
        for arm, found in sorted(inputs.judged["arms"].items())
    ]
    failed = [
        words.language(code) for code, found in inputs.judged["calibration"].items() if not found["passed"]
    ]
    return {"model": inputs.judged["endpoint"]["model"], "rows": rows, "failed": failed}


def identification(inputs: ReportInputs) -> Row:
    """Share of answers in the language that was asked, raw and corrected, with abstentions."""
    table = inputs.table("identification")
    found = {(str(row["arm"]), str(row["language"])): row for row in table.to_dict("records")}
    languages = [code for code in inputs.languages if any(key[1] == code for key in found)]
    rows = []
    for arm in [*inputs.arms, REFERENCE]:
        cells = [
            {"corrected": words.share(row["corrected"]), "raw": words.share(row["raw"]),
             "open": words.share(row["abstained"]), "n": words.count(row["n"])}
            if (row := found.get((arm, code))) else None
            for code in languages
        ]  # fmt: skip
        if any(cells):
            rows.append({"arm": arm, "studied": arm in inputs.studied, "cells": cells})
    return {"languages": [words.language(code) for code in languages], "rows": rows}


def membership(inputs: ReportInputs) -> list[Row]:
    """AUC of every membership score, arm and forget language, with its gap to the oracle and two flags."""
    table = inputs.table("membership")
    scores = [name for name in words.MEMBERSHIP if name in set(table["metric"])]
    found = {(r["arm"], r["language"], r["metric"]): r for r in table.to_dict("records")}
    tables = []
    for language in inputs.roles["forget"]:
        rows = []
        for arm in [*inputs.arms, REFERENCE]:
            own = [found.get((arm, language, score)) for score in scores]
            if any(row is not None for row in own):
                rows.append(_membership_row(arm, arm in inputs.studied, scores, own))
        if rows:
            tables.append({"language": words.language(language), "rows": rows,
                           "scores": [words.MEMBERSHIP[score] for score in scores]})  # fmt: skip
    return tables


def _membership_row(arm: str, studied: bool, scores: list[str], own: list[Any]) -> Row:
    present = [(score, row) for score, row in zip(scores, own, strict=True) if row is not None]
    flagged = [words.MEMBERSHIP[score] for score, row in present if row["over_unlearned"]]
    legacy = [row["priv_leak"] for score, row in present if score == "mia_min_k"]
    cells = [
        None if row is None else {
            "auc": words.number(row["auc"]),
            "interval": words.interval(row["auc_low"], row["auc_high"]),
            "gap": "" if arm == REFERENCE or words.missing(row["gap"]) else words.signed(row["gap"]),
            "reason": row["reason"] if words.missing(row["auc"]) else "",
        }
        for row in own
    ]  # fmt: skip
    return {
        "arm": arm, "studied": studied, "cells": cells,
        "flag": f"over-unlearned: {', '.join(flagged)}" if flagged else "",
        "legacy": words.NOT_MEASURED if not legacy or words.missing(legacy[0])
        else f"{legacy[0]:.0f}".replace("-", words.MINUS),
    }  # fmt: skip


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
