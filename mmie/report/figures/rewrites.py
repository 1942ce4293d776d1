"""Leak rate under each rewrite of the prompts: which ways of asking bring a fact back."""

from __future__ import annotations

from mmie.report import words
from mmie.report.figures.heat import empty_cell, heat_cell, key, two_lines
from mmie.report.inputs import REFERENCE, ReportInputs
from mmie.report.svg import Svg

WIDTH, GUTTER, GAP, ROW, HEAD, FOOT = 980.0, 118.0, 16.0, 25.0, 62.0, 40.0
PER_BAND, WIDEST = 2, 110.0
TOKENS = ("heat-negative", "heat-negative")
ORDER = ("paraphrase", "other_script", "code_mixed", "few_shot", "prefix", "padding", "translation")


def rewrites(inputs: ReportInputs) -> str:
    """Arms by rewrite, one panel a language, base and oracle above all; empty without rewrites."""
    table = inputs.rewrites
    if table.empty:
        return ""
    cells = {(str(r["arm"]), str(r["language"]), str(r["variant"])): r for r in table.to_dict("records")}
    present = {variant for _, _, variant in cells}
    names = [name for name in ORDER if name in present] + sorted(present - set(ORDER))
    languages = [code for code in inputs.languages if any(key_[1] == code for key_ in cells)]
    arms = [*dict.fromkeys(["base", REFERENCE, *inputs.studied, *inputs.known])]
    arms = [arm for arm in arms if any(key_[0] == arm for key_ in cells)]
    columns = min(PER_BAND, max(1, len(languages)))
    panel = (WIDTH - GUTTER - GAP * (columns - 1)) / columns
    width = min(WIDEST, panel / len(names))
    height = HEAD + ROW * len(arms) + 8 + 16
    drawing = Svg("rewrites", WIDTH, "Leak rate under each rewrite of the prompts")
    for number, language in enumerate(languages):
        left, top = GUTTER + (number % columns) * (panel + GAP), (number // columns) * height
        drawing.text(left + 4, top + 18, words.language(language), kind="strong")
        drawing.line(left + 2, top + 25, left + width * len(names) - 2, top + 25, kind="axis")
        for index, name in enumerate(names):
            two_lines(drawing, left + width * (index + 0.5), top + 54, name.replace("_", " "))
        for row, arm in enumerate(arms):
            y = top + HEAD + ROW * row + (8 if arm not in ("base", REFERENCE) else 0)
            if number % columns == 0:
                label = "oracle" if arm == REFERENCE else arm
                label = "oracle, judged" if arm == "oracle" and REFERENCE in arms else label
                kind = "strong" if arm in inputs.studied else "muted"
                drawing.text(GUTTER - 12, y + ROW / 2 + 4, label, kind=kind, anchor="end")
            for index, name in enumerate(names):
                box = (left + width * index, y, width, ROW)
                found = cells.get((arm, language, name))
                if found is None:
                    empty_cell(drawing, box, hint=f"{arm}: no item allows this rewrite")
                    continue
                value = float(found["leak"])
                hint = f"{arm}, {name}: {words.percent(value)} of {words.count(found['n_items'])} items"
                heat_cell(drawing, box, value, words.percent(value), hint=hint, tokens=TOKENS)
    bottom = height * -(-len(languages) // columns)
    labels = [(0.0, "nothing given away"), (0.5, "half"), (1.0, "every fact")]
    key(drawing, GUTTER, bottom - 4, labels, TOKENS)
    return drawing.render(bottom + FOOT - 16)
