"""A small SVG writer: escaped text, short numbers, the same bytes for the same drawing."""

from __future__ import annotations

import math
from html import escape

from mmie.report.palette import variables

# The page holds the same rules once; a figure file of its own needs them inside.
RULES = """
svg.figure{font:13px/1.3 "Inter","Noto Sans",system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;
font-variant-numeric:tabular-nums}
svg.figure text{fill:var(--ink)}
svg.figure .muted{fill:var(--muted)}
svg.figure .small{font-size:11.5px}
svg.figure .tiny{font-size:10px}
svg.figure .strong{font-weight:600}
svg.figure .grid{stroke:var(--rule);stroke-width:1}
svg.figure .axis{stroke:var(--muted);stroke-width:1}
svg.figure .halo{paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}
"""
STYLE = f"<style>{variables()}{RULES}svg.figure .backdrop{{fill:var(--paper)}}</style>"


def short(value: float) -> str:
    """A coordinate with at most two decimals."""
    if not math.isfinite(value):
        raise ValueError(f"a drawing has no place for {value}")
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`, so that no value is cut off."""
    span = (high - low) or 1.0
    raw = span / about
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def text_width(text: str, size: float = 13.0) -> float:
    """About how wide a text is, in px."""
    return 0.56 * size * len(text)


class Scale:
    """A linear map from values to px; a value outside is an error, never clipped."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: float) -> float:
        slack = 1e-9 * max(1.0, abs(self.high - self.low))
        if not self.low - slack <= value <= self.high + slack:
            raise ValueError(f"{value} lies outside the axis {self.low} to {self.high}")
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


class Svg:
    """A figure under construction."""

    def __init__(self, name: str, width: float, title: str) -> None:
        self.name, self.width, self.title = name, width, title
        self.parts: list[str] = []

    def add(self, tag: str, content: str = "", hint: str = "", **attributes: str | float) -> None:
        """Add an element; `hint` is shown while the pointer rests on it."""
        inner = (f"<title>{escape(hint)}</title>" if hint else "") + content
        named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
        written = "".join(
            f' {key}="{escape(value if isinstance(value, str) else short(value))}"'
            for key, value in named.items()
            if value != ""
        )
        self.parts.append(f"<{tag}{written}>{inner}</{tag}>" if inner else f"<{tag}{written}/>")

    def text(
        self, x: float, y: float, text: str, *, kind: str = "", anchor: str = "", style: str = ""
    ) -> None:
        """Text with its baseline at `y`."""
        self.add("text", escape(text), x=x, y=y, class_=kind, text_anchor=anchor, style=style)

    def heading(self, x: float, y: float, title: str, note: str = "") -> None:
        """A strong title with a muted note behind it."""
        after = f'<tspan class="muted small" dx="7">{escape(note)}</tspan>' if note else ""
        self.add("text", f'<tspan class="strong">{escape(title)}</tspan>{after}', x=x, y=y)

    def heading_end(self, x: float, y: float, title: str, note: str) -> None:
        """A strong title that ends at `x`, a muted note before it."""
        before = f'<tspan class="muted small">{escape(note)}</tspan>'
        title = f'<tspan class="strong" dx="9">{escape(title)}</tspan>'
        self.add("text", before + title, x=x, y=y, text_anchor="end")

    def line(
        self, x1: float, y1: float, x2: float, y2: float, *, kind: str = "grid", style: str = ""
    ) -> None:
        """A straight line."""
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind, style=style)

    def rect(
        self, x: float, y: float, width: float, height: float, *, style: str, hint: str = "", r: float = 0
    ) -> None:
        """A filled rectangle."""
        self.add(
            "rect", hint=hint, x=x, y=y, width=width, height=height, rx=r if r else "", style=style
        )  # fmt: skip

    def path(self, points: list[tuple[float, float]], *, style: str, hint: str = "") -> None:
        """An open line through points."""
        d = "M" + "L".join(f"{short(x)} {short(y)}" for x, y in points)
        self.add("path", hint=hint, d=d, style=f"fill:none;{style}")

    def mark(self, x: float, y: float, shape: str, colour: str, hint: str = "", size: float = 5) -> None:
        """A data point: dot, ring, diamond, square or cross."""
        fill = f"fill:var(--{colour})"
        line = f"fill:var(--paper);stroke:var(--{colour});stroke-width:2"
        if shape == "dot":
            self.add("circle", hint=hint, cx=x, cy=y, r=size, style=fill)
        elif shape == "ring":
            self.add("circle", hint=hint, cx=x, cy=y, r=size - 0.5, style=line)
        elif shape == "square":
            side = size * 1.6
            self.add("rect", hint=hint, x=x - side / 2, y=y - side / 2, width=side, height=side, style=line)
        elif shape == "diamond":
            d = f"M{short(x)} {short(y - size - 1)}l{short(size + 1)} {short(size + 1)}l{short(-size - 1)} "
            d += f"{short(size + 1)}l{short(-size - 1)} {short(-size - 1)}z"
            self.add("path", hint=hint, d=d, style=fill)
        else:
            arm = size - 0.5
            d = f"M{short(x - arm)} {short(y - arm)}l{short(2 * arm)} {short(2 * arm)}"
            d += f"m0 {short(-2 * arm)}l{short(-2 * arm)} {short(2 * arm)}"
            self.add("path", hint=hint, d=d, style=f"fill:none;stroke:var(--{colour});stroke-width:2.5")

    def render(self, height: float) -> str:
        """The finished drawing, a file of its own."""
        label = escape(self.title)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="figure" id="figure-{self.name}" role="img" '
            f'aria-label="{label}" viewBox="0 0 {short(self.width)} {short(height)}" '
            f'width="{short(self.width)}" height="{short(height)}">{STYLE}'
            f'<rect class="backdrop" width="100%" height="100%" style="stroke:none"/>'
            f"{''.join(self.parts)}</svg>\n"
        )


def inlined(svg: str) -> str:
    """The same drawing for a page that already has the rules and its own background."""
    backdrop = '<rect class="backdrop" width="100%" height="100%" style="stroke:none"/>'
    return svg.replace(STYLE, "").replace(backdrop, "")
