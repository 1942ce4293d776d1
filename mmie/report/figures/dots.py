"""Dot plots with intervals: one row an arm, one panel a language, reference bands behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mmie.report.palette import looks
from mmie.report.svg import Scale, Svg, text_width, ticks

WIDTH, GUTTER, GAP, ROW, HEAD, FOOT = 980.0, 118.0, 26.0, 25.0, 68.0, 26.0
VALUE = 42.0
PER_BAND = 4


@dataclass(frozen=True)
class Point:
    """An estimate with its interval (None without one), its seeds, and words for the pointer."""

    estimate: float
    low: float | None = None
    high: float | None = None
    seeds: Sequence[float] = ()
    hint: str = ""


@dataclass(frozen=True)
class Band:
    """A vertical reference: a value, its interval, a name above it."""

    label: str
    at: float
    low: float | None = None
    high: float | None = None
    dashed: bool = False
    shade: bool = True


@dataclass(frozen=True)
class Panel:
    """One panel: a heading, points by arm, references."""

    title: str
    subtitle: str
    points: Mapping[str, Point]
    bands: Sequence[Band] = field(default_factory=tuple)


def dot_plot(
    name: str,
    title: str,
    panels: Sequence[Panel],
    studied: Sequence[str],
    known: Sequence[str],
    *,
    axis: str,
    shown: Callable[[float], str],
    floor: float | None = None,
    off_scale: Sequence[str] = (),
) -> str:
    """Draw panels side by side on one scale taken from the data.

    Args:
        name: name of the figure.
        title: what it shows, for screen readers.
        panels: the panels, wrapped after four.
        studied, known: arms in order; known ones below a line.
        axis: words below the axis.
        shown: writes a value.
        floor: a value that the axis must hold, such as 0.
        off_scale: arms that would squeeze all others; they show an arrow and their value.
    """
    values = [value for panel in panels for value in _values(panel, off_scale)]
    values += [] if floor is None else [floor]
    columns = min(PER_BAND, max(1, len(panels)))
    steps = ticks(min(values, default=0.0), max(values, default=1.0), 2 if columns > 3 else 4)
    panel_width = (WIDTH - GUTTER - GAP * (columns - 1)) / columns
    split = 10.0 if studied and known else 0.0
    body = ROW * (len(studied) + len(known)) + split
    band_height = HEAD + body + FOOT + 20
    drawing = Svg(name, WIDTH, title)
    look = looks(studied, known)
    for index, panel in enumerate(panels):
        top = (index // columns) * band_height + HEAD
        left = GUTTER + (index % columns) * (panel_width + GAP)
        scale = Scale(steps[0], steps[-1], left + 6, left + panel_width - VALUE)
        _frame(drawing, panel, scale, steps, top, body, left, shown)
        for row, arm in enumerate([*studied, *known]):
            y = top + ROW * (row + 0.5) + (split if row >= len(studied) else 0)
            if index % columns == 0:
                kind = "strong" if arm in studied else "muted"
                drawing.text(GUTTER - 12, y + 4.5, arm, kind=kind, anchor="end")
            point, right = panel.points.get(arm), left + panel_width
            if point is not None and arm in off_scale:
                side = scale.start if point.estimate < steps[0] else scale.end
                _outside(drawing, point, side, y, right, look[arm][0], shown)
            else:
                _point(drawing, point, scale, y, right, look[arm], shown)
        if index % columns == 0:
            drawing.text(left + 6, top + body + FOOT + 8, axis, kind="muted small")
    bands = -(-len(panels) // columns) if panels else 1
    return drawing.render(bands * band_height)


def _values(panel: Panel, off_scale: Sequence[str]) -> list[float]:
    found: list[float | None] = []
    for arm, point in panel.points.items():
        found += [] if arm in off_scale else [point.estimate, point.low, point.high, *point.seeds]
    for band in panel.bands:
        found += [band.at, band.low, band.high]
    return [value for value in found if value is not None and value == value]


def _frame(
    drawing: Svg,
    panel: Panel,
    scale: Scale,
    steps: Sequence[float],
    top: float,
    body: float,
    left: float,
    shown: Callable[[float], str],
) -> None:
    drawing.text(left + 6, top - 54, panel.title, kind="strong")
    drawing.text(left + 6, top - 39, panel.subtitle, kind="muted small")
    for value in steps:
        x = scale(value)
        drawing.line(x, top, x, top + body)
        drawing.text(x, top + body + 15, shown(value), kind="muted small", anchor="middle")
    placed: list[tuple[float, float]] = []
    for band in sorted(panel.bands, key=lambda item: item.at):
        if band.shade and band.low is not None and band.high is not None:
            width = max(2.0, scale(band.high) - scale(band.low))
            drawing.rect(
                scale(band.low), top, width, body, style="fill:var(--base-band);fill-opacity:.22",
                hint=f"{band.label}: {shown(band.at)}",
            )  # fmt: skip
        dash = "stroke-dasharray:4 3" if band.dashed else ""
        drawing.line(scale(band.at), top - 3, scale(band.at), top + body, kind="axis", style=dash)
        _band_label(drawing, band.label, scale, scale(band.at), top - 8, placed)


def _band_label(
    drawing: Svg, label: str, scale: Scale, x: float, y: float, placed: list[tuple[float, float]]
) -> None:
    width = text_width(label, 11.5)
    middle = min(max(x, scale.start + width / 2 - 6), scale.end - width / 2 + VALUE - 4)
    if any(abs(middle - other) < (width + size) / 2 + 4 for other, size in placed):
        y -= 13
    placed.append((middle, width))
    drawing.text(middle, y, label, kind="muted small", anchor="middle")


def _outside(
    drawing: Svg,
    point: Point,
    x: float,
    y: float,
    right: float,
    colour: str,
    shown: Callable[[float], str],
) -> None:
    """An arrow at the edge that the value lies beyond."""
    drawing.text(x, y + 4.5, "◂ off the scale", kind="small", style=f"fill:var(--{colour})")
    drawing.text(right, y + 4.5, shown(point.estimate), kind="small", anchor="end")


def _point(
    drawing: Svg,
    point: Point | None,
    scale: Scale,
    y: float,
    right: float,
    look: tuple[str, str],
    shown: Callable[[float], str],
) -> None:
    colour, shape = look
    if point is None or point.estimate != point.estimate:
        drawing.text(right, y + 4.5, "n/m", kind="muted small", anchor="end")
        return
    for seed in point.seeds if len(point.seeds) > 1 else ():
        if seed == seed:
            thin = f"stroke:var(--{colour});stroke-width:1.5"
            drawing.line(scale(seed), y + 5, scale(seed), y + 10, kind="", style=thin)
    if point.low is not None and point.high is not None:
        thick = f"stroke:var(--{colour});stroke-width:2"
        drawing.line(scale(point.low), y, scale(point.high), y, kind="", style=thick)
    drawing.mark(scale(point.estimate), y, shape, colour, point.hint)
    drawing.text(right, y + 4.5, shown(point.estimate), kind="small", anchor="end")
