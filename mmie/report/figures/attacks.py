"""What is left of every arm under every attack, above it the controls: base and oracle under the same one."""

from __future__ import annotations

from typing import Any

from mmie.report import words
from mmie.report.figures.heat import empty_cell, heat_cell, transfer_key, two_lines
from mmie.report.inputs import REFERENCE, ReportInputs
from mmie.report.svg import Svg
from mmie.report.tables.attacks import attack_names

WIDTH, GUTTER, GAP, ROW, CONTROL, HEAD, FOOT = 980.0, 118.0, 16.0, 40.0, 24.0, 62.0, 44.0
PER_BAND, WIDEST = 2, 110.0
Cells = dict[tuple[str, str, str], dict[Any, Any]]


def attacks(inputs: ReportInputs) -> str:
    """T under attack with its interval, arms by attack, one panel a language; empty without attacks."""
    table = inputs.table("robustness")
    table = table[table["metric"] == "leak"]
    names = [name for name in attack_names(inputs) if name in set(table["attack"])]
    languages = [code for code in inputs.languages if code in set(table["language"])]
    if not names or not languages:
        return ""
    cells: Cells = {(r["arm"], r["language"], r["attack"]): r for r in table.to_dict("records")}
    drawing = Svg("attacks", WIDTH, "Transfer under every attack")
    columns = min(PER_BAND, len(languages))
    panel = (WIDTH - GUTTER - GAP * (columns - 1)) / columns
    arms = [arm for arm in inputs.arms if arm != "base"]
    height = HEAD + 2 * CONTROL + 8 + ROW * len(arms) + 8 + 20
    for index, language in enumerate(languages):
        left = GUTTER + (index % columns) * (panel + GAP)
        top = (index // columns) * height
        width = min(WIDEST, panel / len(names))
        _panel(drawing, inputs, cells, language, names, (left, top, width), index % columns == 0)
    bottom = height * -(-len(languages) // columns)
    transfer_key(drawing, GUTTER, bottom - 6)
    return drawing.render(bottom + FOOT - 16)


def _panel(
    drawing: Svg,
    inputs: ReportInputs,
    cells: Cells,
    language: str,
    names: list[str],
    place: tuple[float, float, float],
    named: bool,
) -> None:
    left, top, width = place
    drawing.text(left + 4, top + 18, words.language(language), kind="strong")
    drawing.line(left + 2, top + 25, left + width * len(names) - 2, top + 25, kind="axis")
    for index, attack in enumerate(names):
        two_lines(drawing, left + width * (index + 0.5), top + 54, words.attack(attack))
    y = top + HEAD
    for arm, label in (("base", "base leaks"), (REFERENCE, "oracle leaks")):
        if named:
            drawing.text(GUTTER - 12, y + CONTROL / 2 + 4, label, kind="muted", anchor="end")
        for index, attack in enumerate(names):
            row = cells.get((arm, language, attack))
            said = words.percent(row["after"]) if row else words.NOT_MEASURED
            x = left + width * (index + 0.5)
            drawing.text(x, y + CONTROL / 2 + 4, said, kind="muted", anchor="middle")
        y += CONTROL
    y += 8
    for group in (inputs.studied, [arm for arm in inputs.known if arm != "base"]):
        for arm in group:
            if named:
                kind = "strong" if arm in inputs.studied else "muted"
                drawing.text(GUTTER - 12, y + ROW / 2 + 4, arm, kind=kind, anchor="end")
            for index, attack in enumerate(names):
                where = f"{arm}, {words.attack(attack)}, {words.language(language)}"
                box = (left + width * index, y, width, ROW)
                _cell(drawing, cells.get((arm, language, attack)), box, where)
            y += ROW
        y += 8 if group else 0


def _cell(
    drawing: Svg, row: dict[Any, Any] | None, box: tuple[float, float, float, float], where: str
) -> None:
    if row is None or words.missing(row["transfer"]):
        reason = str(row["transfer_reason"] or "not measured") if row else "not measured"
        empty_cell(drawing, box, hint=f"{where}: {reason}")
        return
    value = float(row["transfer"])
    low, high = row["transfer_low"], row["transfer_high"]
    spread = "" if words.missing(low) or words.missing(high) else f"{words.number(low)}–{words.number(high)}"
    said = f"{where}: T = {words.number(value)} ({words.interval(low, high)})"
    hint = said + f", leak rate {words.percent(row['before'])} before, {words.percent(row['after'])} under it"
    heat_cell(drawing, box, value, words.number(value), hint=hint, below=spread)
