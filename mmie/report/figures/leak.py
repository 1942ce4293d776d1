"""The first figure: how often each arm still gives the forgotten facts away."""

from __future__ import annotations

from mmie.report import words
from mmie.report.figures.dots import Band, Panel, Point, dot_plot
from mmie.report.inputs import ReportInputs

CELLS = ("test", "mixed")


def leak(inputs: ReportInputs) -> str:
    """Leak rate of every forget language, direct and mixed prompts, beside base and oracle."""
    panels = []
    for split in CELLS:
        for language in inputs.roles["forget"]:
            points = {
                arm: found for arm in inputs.arms if (found := level(inputs, arm, language, split, "leak"))
            }
            if points:
                bands = references(inputs, language, split, "leak")
                panels.append(Panel(words.language(language), words.cell(split), points, bands))
    if not panels:
        return ""
    return dot_plot(
        "leak", "Leak rate of the forget language by arm, with 95 % intervals", panels,
        inputs.studied, inputs.known, axis="leak rate: share of facts given away in any language",
        shown=words.percent, floor=0.0,
    )  # fmt: skip


def level(inputs: ReportInputs, arm: str, language: str, split: str, metric: str) -> Point | None:
    """A score as a point; None when it was not measured."""
    row = inputs.metric(arm, language, split, metric)
    if row is None or words.missing(row["estimate"]):
        return None
    low, high = (None if words.missing(row[key]) else float(row[key]) for key in ("ci_low", "ci_high"))
    seeds = [value for value in inputs.seeds(arm, language, split, metric) if not words.missing(value)]
    hint = f"{arm}: {words.number(row['estimate'])} ({words.interval(low, high)}), "
    hint += f"{words.count(row['n_items'])} items"
    if len(seeds) > 1:
        hint += ", seeds " + ", ".join(words.number(value) for value in seeds)
    return Point(float(row["estimate"]), low, high, seeds, hint)


def references(inputs: ReportInputs, language: str, split: str, metric: str) -> list[Band]:
    """Bands of the base and of the oracle that scores are normalised by."""
    bands = []
    for label, arm in (("base", "base"), ("oracle", inputs.reference)):
        point = level(inputs, arm, language, split, metric)
        if point is not None:
            bands.append(Band(label, point.estimate, point.low, point.high))
    return bands
