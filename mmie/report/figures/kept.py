"""What unlearning cost the languages to keep: change in accuracy against the base."""

from __future__ import annotations

from mmie.report import words
from mmie.report.figures.dots import Band, Panel, Point, dot_plot
from mmie.report.inputs import ReportInputs


def kept(inputs: ReportInputs) -> str:
    """Change in accuracy of every kept language with its interval and the margin of its gate."""
    tests = inputs.tests
    tests = tests[
        (tests["metric"] == "correct") & (tests["statistic"] == "difference") & (tests["cell"] == "test")
    ]
    panels = []
    for language in inputs.roles["kept"]:
        rows = tests[tests["language"] == language].to_dict("records")
        points = {}
        for row in rows:
            if row["arm"] in inputs.arms and not words.missing(row["estimate"]):
                low, high = (
                    None if words.missing(row[key]) else float(row[key]) for key in ("ci_low", "ci_high")
                )
                hint = f"{row['arm']}: {words.signed(row['estimate'])} ({words.interval(low, high)})"
                points[str(row["arm"])] = Point(float(row["estimate"]), low, high, (), hint)
        if points:
            bands = [Band("", 0.0, shade=False)]
            margins = [row["threshold"] for row in rows if not words.missing(row["threshold"])]
            if margins:
                bands.append(Band("margin", float(margins[0]), dashed=True))
            role = "protected" if language in inputs.roles["retain"] else "neighbour"
            panels.append(Panel(words.language(language), role, points, bands))
    if not panels:
        return ""
    return dot_plot(
        "kept", "Change in accuracy of the kept languages against the base", panels,
        inputs.studied, inputs.known, axis="change in share of correct answers, arm minus base",
        shown=points_of_percent, floor=0.0, off_scale=_far(panels, inputs.studied),
    )  # fmt: skip


def _far(panels: list[Panel], studied: list[str]) -> list[str]:
    """Arms below three times the worst change of any arm under study (and below -0.3)."""
    worst = min(
        (panel.points[arm].estimate for panel in panels for arm in studied if arm in panel.points), default=0
    )
    limit = min(-0.3, 3 * worst)
    far = {arm for panel in panels for arm, point in panel.points.items() if point.estimate < limit}
    # An arm stands on the scale in all panels or in none.
    near = {arm for panel in panels for arm, point in panel.points.items() if point.estimate >= limit}
    return sorted(far - near - set(studied))


def points_of_percent(value: float) -> str:
    """A change of a share in points, signed."""
    points = round(100 * value, 0 if abs(value) >= 0.0995 else 1)
    return f"{points:+g}".replace("-", words.MINUS) if points else "0"
