"""Attack curves: what comes back, step by step, beside the base and the oracle under the same attack."""

from __future__ import annotations

import math

import pandas as pd

from mmie.report import words
from mmie.report.inputs import ReportInputs
from mmie.report.palette import looks
from mmie.report.svg import Scale, Svg, ticks

WIDTH, LEFT, RIGHT, GAP, HEAD, HEIGHT, FOOT = 980.0, 46.0, 96.0, 20.0, 34.0, 250.0, 44.0
LEADING = 14.0


def curves(inputs: ReportInputs) -> str:
    """Leak rate after every step of each attack with steps; one panel a forget language, one row an attack.

    Empty when no attack has a curve.
    """
    table = inputs.table("attack_curves")
    table = table[(table["metric"] == "leak") & ~table["estimate"].map(words.missing).astype(bool)]
    steps = table.groupby("attack")["step"].nunique()
    order = list(words.ATTACKS)
    attacks = sorted(
        steps.index[steps > 1], key=lambda name: (order.index(name) if name in order else len(order), name)
    )
    if not attacks:
        return ""
    drawing = Svg("attack", WIDTH, "Leak rate under relearning, by step")
    for row, attack in enumerate(attacks):
        _band(drawing, inputs, table[table["attack"] == attack], attack, row * (HEAD + HEIGHT + FOOT))
    return drawing.render(len(attacks) * (HEAD + HEIGHT + FOOT))


def _band(drawing: Svg, inputs: ReportInputs, table: pd.DataFrame, attack: str, top: float) -> None:
    languages = [code for code in inputs.languages if code in set(table["language"])]
    width, foot = WIDTH / max(1, len(languages)), top + HEAD + HEIGHT
    levels = ticks(0.0, max(float(table["estimate"].max()), 0.05))
    for index, language in enumerate(languages):
        rows = table[table["language"] == language]
        left = index * width + LEFT
        right = (index + 1) * width - RIGHT - (GAP if index + 1 < len(languages) else 0)
        x = Scale(0.0, _position(int(rows["step"].max())) or 1.0, left, right)
        y = Scale(levels[0], levels[-1], foot, top + HEAD)
        _axes(drawing, x, y, sorted({int(step) for step in rows["step"]}), levels, words.language(language))
        _lines(drawing, inputs, rows, x, y)
    drawing.text(LEFT, foot + 38, f"steps of {words.attack(attack)}, log scale", kind="muted small")


def _position(step: int) -> float:
    return math.log2(1 + step)


def _axes(drawing: Svg, x: Scale, y: Scale, steps: list[int], levels: list[float], title: str) -> None:
    drawing.text(x.start, y.end - 18, title, kind="strong")
    for value in levels:
        drawing.line(x.start, y(value), x.end, y(value))
        drawing.text(x.start - 8, y(value) + 4, words.percent(value), kind="muted small", anchor="end")
    for step in steps:
        place = x(_position(step))
        drawing.line(place, y.start, place, y.start + 4, kind="axis")
        drawing.text(place, y.start + 18, str(step), kind="muted small", anchor="middle")


def _lines(drawing: Svg, inputs: ReportInputs, rows: pd.DataFrame, x: Scale, y: Scale) -> None:
    look = looks(inputs.studied, inputs.known)
    arms = [arm for arm in (*inputs.known, *inputs.studied) if arm in set(rows["arm"])]
    ends = []
    for arm in arms:
        own = rows[rows["arm"] == arm].sort_values("step")
        points = [
            (x(_position(int(step))), y(float(value)))
            for step, value in zip(own["step"], own["estimate"], strict=True)
        ]
        colour = look[arm][0]
        style = f"stroke:var(--{colour});stroke-width:{2.25 if arm in inputs.studied else 1.5}"
        style += "" if arm in inputs.studied else ";stroke-dasharray:5 3"
        said = ", ".join(
            f"step {int(step)} {words.percent(value)}"
            for step, value in zip(own["step"], own["estimate"], strict=True)
        )
        drawing.path(points, style=style, hint=f"{arm}: {said}")
        for place in points if arm in inputs.studied else ():
            drawing.mark(*place, "dot", colour, size=3)
        ends.append((points[-1][1], arm, colour, points[-1]))
    for (end, arm, colour, point), at in zip(ends, _apart([item[0] for item in ends], y.start), strict=True):
        if abs(at - end) > 3:
            drawing.line(
                point[0] + 2, end, x.end + 10, at, kind="", style=f"stroke:var(--{colour});stroke-width:.75"
            )
        kind = "small strong" if arm in inputs.studied else "small"
        drawing.text(x.end + 13, at + 4, arm, kind=kind, style=f"fill:var(--{colour})")


def _apart(places: list[float], axis: float) -> list[float]:
    """Label positions in the same order, as near to `places` as a line of text allows, above an axis."""
    order = sorted(range(len(places)), key=lambda index: (places[index], index))
    placed = [places[index] for index in order]
    for _ in range(200):
        moved = False
        for upper in range(len(placed) - 1):
            short = LEADING - (placed[upper + 1] - placed[upper])
            if short > 1e-6:
                placed[upper] -= short / 2
                placed[upper + 1] += short / 2
                moved = True
        if not moved:
            break
    # Whole lines below the axis would run into its numbers.
    lowest = axis + 2
    excess = max(0.0, (placed[-1] if placed else 0.0) - lowest)
    shifted = [place - excess for place in placed] if excess else placed
    found = [0.0] * len(places)
    for index, place in zip(order, shifted, strict=True):
        found[index] = place
    return found
