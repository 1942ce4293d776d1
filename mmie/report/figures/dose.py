"""Dose and response: what a smaller, larger or reversed strength does to forgetting and to what must stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from mmie.report import words
from mmie.report.inputs import ReportInputs
from mmie.report.palette import looks
from mmie.report.svg import Scale, Svg, ticks

WIDTH, LEFT, GAP, HEAD, HEIGHT, FOOT = 980.0, 46.0, 52.0, 40.0, 150.0, 56.0
COLUMNS, MARGIN = 3, 18.0
DASHES = ("", "stroke-dasharray:5 3", "stroke-dasharray:1.5 3", "stroke-dasharray:8 3 2 3")


def dose(inputs: ReportInputs) -> str:
    """`draw_doses` of the report, empty when the target was never made."""
    if inputs.doses.empty:
        return ""
    colours = {arm: colour for arm, (colour, _) in looks(inputs.studied, inputs.known).items()}
    return draw_doses(inputs.doses, inputs.arms, inputs.roles, colours)


def draw_doses(
    table: pd.DataFrame,
    order: Sequence[str],
    roles: Mapping[str, Sequence[str]],
    colours: Mapping[str, str] | None = None,
) -> str:
    """One panel an arm: leak of forget and accuracy of retain languages on DEV, by share of the strength.

    Args:
        table: of `mmie.report.stage_files.read_doses`.
        order: of the arms; others come last.
        roles: languages by role, of which `forget` and `retain` are drawn.
        colours: colour token by arm, those of the report; None: black.
    """
    measured = set(table["arm"])
    arms = [arm for arm in order if arm in measured] + sorted(measured - set(order))
    drawing = Svg("dose", WIDTH, "Dose and response: leak and accuracy by strength")
    columns = min(COLUMNS, len(arms))
    width = min(440.0, (WIDTH - LEFT - MARGIN - GAP * (columns - 1)) / columns)
    for index, arm in enumerate(arms):
        left = LEFT + (index % columns) * (width + GAP)
        top = (index // columns) * (HEAD + HEIGHT + FOOT)
        own = table[table["arm"] == arm]
        y = Scale(0.0, 1.0, top + HEAD + HEIGHT, top + HEAD)
        marks = ticks(float(own["share"].min()), float(own["share"].max()), 4)
        x = Scale(marks[0], marks[-1], left, left + width)
        drawing.text(left, top + 18, arm, kind="strong")
        for value in (0.0, 0.5, 1.0):
            drawing.line(x.start, y(value), x.end, y(value))
            drawing.text(x.start - 8, y(value) + 4, words.percent(value), kind="muted small", anchor="end")
        for value in marks:
            drawing.text(x(value), y.start + 16, words.number(value), kind="muted small", anchor="middle")
        if marks[0] <= 0 <= marks[-1]:
            drawing.line(x(0), y.start, x(0), y.end, kind="axis", style="stroke-dasharray:2 3")
        _lines(drawing, roles, own, x, y, (colours or {}).get(arm, "ink"))
        drawing.text(left, y.start + 32, "share of the strength; 0 is off", kind="muted small")
    bands = -(-len(arms) // columns)
    bottom = bands * (HEAD + HEIGHT + FOOT)
    style = "stroke:var(--ink);stroke-width:2;"
    drawing.path([(LEFT, bottom - 4), (LEFT + 26, bottom - 4)], style=style)
    drawing.text(LEFT + 32, bottom, "leak rate, languages to forget", kind="small")
    drawing.path([(LEFT + 240, bottom - 4), (LEFT + 266, bottom - 4)], style=style + DASHES[1])
    drawing.text(LEFT + 272, bottom, "correct, protected languages", kind="small")
    return drawing.render(bottom + 10)


def _lines(
    drawing: Svg, roles: Mapping[str, Sequence[str]], own: pd.DataFrame, x: Scale, y: Scale, colour: str
) -> None:
    sides = (("leak", roles["forget"], DASHES[0]), ("correct", roles["retain"], DASHES[1]))
    for score, languages, dash in sides:
        for language in languages:
            rows = own[(own["language"] == language) & own["share"].notna()].sort_values("share")
            rows = rows[~rows[score].map(words.missing).astype(bool)]
            pairs = [(float(a), float(b)) for a, b in zip(rows["share"], rows[score], strict=True)]
            if not pairs:
                continue
            said = ", ".join(f"{words.number(a)}: {words.percent(b)}" for a, b in pairs)
            points = [(x(a), y(b)) for a, b in pairs]
            style = f"stroke:var(--{colour});stroke-width:2;{dash}"
            drawing.path(points, style=style, hint=f"{score} in {words.language(language)}: {said}")
            for place in points:
                drawing.mark(*place, "dot", colour, size=2.5)
