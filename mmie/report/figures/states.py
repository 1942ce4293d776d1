"""Answer states: why a score is low. Wrong, silent, in another language and broken are four things."""

from __future__ import annotations

from mmie.report import words
from mmie.report.inputs import ReportInputs
from mmie.report.svg import Svg, text_width

WIDTH, GUTTER, GAP, ROW, BAR, HEAD, KEY = 980.0, 118.0, 20.0, 20.0, 15.0, 34.0, 34.0
COLUMNS = 3
READABLE = 0.13


def states(inputs: ReportInputs) -> str:
    """Stacked shares of the answer states of every arm and language, direct TEST prompts."""
    table = inputs.table("answer_states")
    table = table[table["split"] == "test"]
    rates = {
        (str(row["arm"]), str(row["language"]), str(row["state"])): float(row["rate"])
        for row in table.to_dict("records")
        if not words.missing(row["rate"])
    }
    languages = [code for code in inputs.languages if any(key[1] == code for key in rates)]
    if not languages:
        return ""
    drawing = Svg("states", WIDTH, "Answer states by arm and language")
    _key(drawing)
    width = (WIDTH - GUTTER - GAP * (COLUMNS - 1)) / COLUMNS
    split = 8.0 if inputs.studied and inputs.known else 0.0
    height = HEAD + ROW * len(inputs.arms) + split + 22
    for index, language in enumerate(languages):
        top = KEY + (index // COLUMNS) * height + HEAD
        left = GUTTER + (index % COLUMNS) * (width + GAP)
        drawing.heading(left, top - 9, words.language(language), _role(inputs, language))
        for row, arm in enumerate(inputs.arms):
            y = top + ROW * row + (split if row >= len(inputs.studied) else 0)
            if index % COLUMNS == 0:
                kind = "strong" if arm in inputs.studied else "muted"
                drawing.text(GUTTER - 12, y + 12, arm, kind=kind, anchor="end")
            shares = {state: rates.get((arm, language, state)) for state in words.STATES}
            _bar(drawing, shares, left, y, width, arm)
    bands = -(-len(languages) // COLUMNS) if languages else 1
    return drawing.render(KEY + bands * height)


def _role(inputs: ReportInputs, language: str) -> str:
    if language in inputs.roles["forget"]:
        return "to forget"
    return "protected" if language in inputs.roles["retain"] else "neighbour"


def _key(drawing: Svg) -> None:
    x = GUTTER
    for state, label in words.STATES.items():
        drawing.rect(x, 4, 12, 12, style=f"fill:var(--state-{state})", r=2)
        drawing.text(x + 17, 14.5, label, kind="small")
        x += 17 + text_width(label, 11.5) + 16


def _bar(
    drawing: Svg, shares: dict[str, float | None], left: float, y: float, width: float, arm: str
) -> None:
    if all(share is None for share in shares.values()):
        drawing.text(left, y + 12, "n/m", kind="muted small")
        return
    x = left
    for state, share in shares.items():
        if not share:
            continue
        size = share * width
        hint = f"{arm}: {words.STATES[state]} {words.percent(share)}"
        # A hair of background parts neighbouring states without relying on their colours.
        drawing.rect(x, y, max(0.5, size - 1), BAR, style=f"fill:var(--state-{state})", hint=hint)
        if share >= READABLE:
            drawing.text(
                x + 5, y + 11.5, words.percent(share), kind="small", style=f"fill:var(--on-state-{state})"
            )
        x += size
