"""Layer selection: what each layer's similarity and probe scores were, and which layers were taken."""

from __future__ import annotations

from mmie.report import words
from mmie.report.inputs import ReportInputs
from mmie.report.svg import Scale, Svg, ticks

WIDTH, LEFT, GAP, HEAD, HEIGHT, FOOT = 980.0, 40.0, 52.0, 36.0, 150.0, 40.0
NAMES = {
    "cka": "CKA, debiased",
    "procrustes": "Procrustes similarity",
    "anc": "neuron correlation",
    "selectivity": "probe selectivity",
}


def layers(inputs: ReportInputs) -> str:
    """Excess over chance of every component by layer; chosen layers are shaded."""
    table = inputs.layers
    if table.empty:
        return ""
    drawing = Svg("layers", WIDTH, "Layer scores and the chosen layers")
    known = [name for name in NAMES if name in set(table["component"])]
    components = [*known, *sorted(set(table["component"]) - set(NAMES))]
    chosen = {int(layer) for layer in inputs.selected.get("layers", [])}
    numbers = sorted({int(layer) for layer in table["layer"]})
    width = (WIDTH - LEFT - GAP * (len(components) - 1)) / len(components)
    for index, component in enumerate(components):
        part = table[table["component"] == component]
        part = part[~part["excess"].map(words.missing).astype(bool)]
        left = LEFT + index * (width + GAP)
        drawing.text(left, 16, NAMES.get(component, component), kind="strong")
        if part.empty:
            drawing.text(left, HEAD + 20, "n/m", kind="muted")
            continue
        levels = ticks(min(0.0, float(part["excess"].min())), float(part["excess"].max()), 3)
        x = Scale(numbers[0] - 0.5, numbers[-1] + 0.5, left, left + width)
        y = Scale(levels[0], levels[-1], HEAD + HEIGHT, HEAD)
        for layer in sorted(chosen):
            drawing.rect(
                x(layer - 0.5), HEAD, x(layer + 0.5) - x(layer - 0.5), HEIGHT,
                style="fill:var(--arm-0);fill-opacity:.16", hint=f"layer {layer} was chosen",
            )  # fmt: skip
        for value in levels:
            drawing.line(left, y(value), left + width, y(value))
            drawing.text(left - 6, y(value) + 4, words.number(value), kind="muted small", anchor="end")
        for layer in _some(numbers):
            kind = "small strong" if layer in chosen else "muted small"
            drawing.text(x(layer), HEAD + HEIGHT + 16, str(layer), kind=kind, anchor="middle")
        for (first, second), pair in part.groupby(["language_a", "language_b"], sort=True):
            pair = pair.sort_values("layer")
            points = [(x(a), y(float(b))) for a, b in zip(pair["layer"], pair["excess"], strict=True)]
            thin = "stroke:var(--muted);stroke-width:1;stroke-opacity:.45"
            drawing.path(points, style=thin, hint=f"{first} – {second}")
        mean = part.groupby("layer", sort=True)["excess"].mean()
        drawing.path(
            [(x(float(layer)), y(float(value))) for layer, value in mean.items()],
            style="stroke:var(--arm-0);stroke-width:2.25", hint="mean over pairs of languages",
        )  # fmt: skip
    drawing.text(LEFT, HEAD + HEIGHT + 34, "block; score above chance", kind="muted small")
    return drawing.render(HEAD + HEIGHT + FOOT)


def _some(numbers: list[int], most: int = 12) -> list[int]:
    step = -(-len(numbers) // most)
    return numbers[::step]
