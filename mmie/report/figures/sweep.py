"""All trials of a search on DEV, not only the one that was chosen."""

from __future__ import annotations

from mmie.report import words
from mmie.report.inputs import ReportInputs
from mmie.report.palette import looks
from mmie.report.svg import Scale, Svg

WIDTH, GUTTER, ROW, HEAD, FOOT, RIGHT = 980.0, 118.0, 34.0, 14.0, 54.0, 120.0
SPREAD = 9.0


def sweep(inputs: ReportInputs) -> str:
    """One row a swept arm, one dot a trial at how much it forgot; empty when nothing was searched."""
    if not inputs.sweeps:
        return ""
    drawing = Svg("sweep", WIDTH, "How much every trial of the search forgot, on DEV")
    look = looks(inputs.studied, inputs.known)
    bottom = HEAD + ROW * len(inputs.sweeps)
    x = Scale(0.0, 1.0, GUTTER, WIDTH - RIGHT)
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawing.line(x(value), HEAD, x(value), bottom)
        drawing.text(x(value), bottom + 16, words.number(value), kind="muted small", anchor="middle")
    for index, (arm, found) in enumerate(inputs.sweeps.items()):
        y = HEAD + ROW * (index + 0.5)
        colour = look[arm][0] if arm in look else "muted"
        drawing.text(GUTTER - 12, y + 4, arm, kind="strong", anchor="end")
        chosen = found["choice"]["chosen"]
        for row in found["trials"].sort_values("number").to_dict("records"):
            if words.missing(row["s_mem"]):
                continue
            # Trials with one value would lie on each other: their number moves them up or down.
            place = y + SPREAD * ((int(row["number"]) % 5) - 2) / 2
            hint = f"{row['trial']}: {words.number(row['s_mem'])}"
            hint += "" if row["admissible"] else ", harms what must be kept"
            shape = "dot" if row["admissible"] else "ring"
            drawing.mark(x(float(row["s_mem"])), place, shape, colour, hint, size=3.5)
            if row["trial"] == chosen:
                drawing.mark(x(float(row["s_mem"])), place, "cross", "ink", f"chosen: {hint}", size=6)
    drawing.text(GUTTER, bottom + 34, "forgotten on DEV: 0 as the base, 1 as the oracle", kind="muted small")
    legend = "dot: keeps the other languages; ring: harms them; cross: chosen"
    drawing.text(GUTTER, bottom + 49, legend, kind="muted small")
    return drawing.render(bottom + FOOT)
