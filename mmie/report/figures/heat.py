"""A cell of a heat map, and the keys that say what its colour means."""

from __future__ import annotations

from collections.abc import Sequence

from mmie.report import words
from mmie.report.svg import Svg

INK_TURNS = 0.68
STEP = 150.0


def heat_cell(
    drawing: Svg,
    box: tuple[float, float, float, float],
    value: float,
    said: str,
    *,
    hint: str,
    below: str = "",
    tokens: tuple[str, str] = ("heat", "heat-negative"),
) -> None:
    """A coloured box with its number.

    Args:
        drawing: where to.
        box: x, y, width, height.
        value: from 0 (no colour) to 1 (full); below 0 in the second token's colour.
        said: the number as text.
        hint: shown under the pointer.
        below: a second, smaller line such as an interval.
        tokens: colours of positive and negative values.
    """
    x, y, width, height = box
    share = min(1.0, abs(value))
    colour = tokens[0] if value >= 0 else tokens[1]
    drawing.rect(x + 1, y + 1, width - 2, height - 2, style="fill:var(--panel)")
    style = f"fill:var(--{colour});fill-opacity:{share:.3f}"
    drawing.rect(x + 1, y + 1, width - 2, height - 2, style=style, hint=hint)
    ink = "fill:var(--on-heat)" if share > INK_TURNS else ""
    middle = y + height / 2 + 4.5
    drawing.text(x + width / 2, middle - (7 if below else 0), said, anchor="middle", style=ink)
    if below:
        drawing.text(x + width / 2, middle + 8, below, kind="tiny", anchor="middle", style=ink)


def empty_cell(drawing: Svg, box: tuple[float, float, float, float], *, hint: str, said: str = "") -> None:
    """A box without a value; the reason is under the pointer, or written in it."""
    x, y, width, height = box
    drawing.rect(x + 1, y + 1, width - 2, height - 2, style="fill:var(--panel)", hint=hint)
    text = said or words.NOT_MEASURED
    drawing.text(x + width / 2, y + height / 2 + 4, text, kind="muted small", anchor="middle")


def two_lines(drawing: Svg, x: float, y: float, text: str, kind: str = "muted small") -> None:
    """A column heading of one or two lines, its last baseline at `y`."""
    first, _, second = text.partition(" ")
    if second:
        drawing.text(x, y - 13, first, kind=kind, anchor="middle")
    drawing.text(x, y, second or first, kind=kind, anchor="middle")


def transfer_key(drawing: Svg, x: float, y: float) -> None:
    """What the colours of T mean."""
    stops = [(-0.5, "reinforced"), (0.0, "as the base"), (0.5, "halfway"), (1.0, "as the oracle")]
    labels = [(value, f"{words.number(value)} {name}" if value >= 0 else f"below 0 {name}")
              for value, name in stops]  # fmt: skip
    key(drawing, x, y, labels)


def key(
    drawing: Svg,
    x: float,
    y: float,
    labels: Sequence[tuple[float, str]],
    tokens: tuple[str, str] = ("heat", "heat-negative"),
) -> None:
    """Small boxes with words."""
    for value, label in labels:
        colour = tokens[0] if value >= 0 else tokens[1]
        drawing.rect(x, y, 16, 12, style="fill:var(--panel)")
        drawing.rect(x, y, 16, 12, style=f"fill:var(--{colour});fill-opacity:{abs(value):.3f}")
        drawing.text(x + 22, y + 10.5, label, kind="muted small")
        x += STEP
