"""Fitted in one script, asked in another: does forgetting follow the language or its letters?"""

from __future__ import annotations

from mmie.report import words
from mmie.report.figures.heat import empty_cell, heat_cell, transfer_key
from mmie.report.inputs import ReportInputs
from mmie.report.svg import Svg

WIDTH, GUTTER, CELL, ROW, HEAD, FOOT = 980.0, 218.0, 150.0, 40.0, 54.0, 44.0
FORMS = {"native": "native script", "romanised": "Latin script", "both": "both scripts"}


def scripts(inputs: ReportInputs) -> str:
    """T by the form an arm was fitted on (rows) and the form it is asked in (columns); one block a language.

    Empty when no arm under study is there to compare.
    """
    table = inputs.table("scripts")
    if table.empty or not table["arm"].any():
        return ""
    languages = [code for code in inputs.languages if code in set(table["language"])]
    languages += sorted(set(table["language"]) - set(languages))
    drawing = Svg("scripts", WIDTH, "Transfer by the script an arm was fitted on and asked in")
    top = 0.0
    for language in languages:
        top = _block(drawing, inputs, table[table["language"] == language].to_dict("records"), language, top)
    transfer_key(drawing, GUTTER, top + 8)
    return drawing.render(top + FOOT)


def _block(drawing: Svg, inputs: ReportInputs, rows: list[dict], language: str, top: float) -> float:
    """Draw one language below `top`; returns where it ends."""
    drawing.text(GUTTER + 4, top + 18, f"{words.language(language)}, asked in", kind="strong")
    drawing.line(GUTTER + 2, top + 25, GUTTER + CELL * len(FORMS) - 2, top + 25, kind="axis")
    for index, name in enumerate(FORMS.values()):
        drawing.text(GUTTER + CELL * (index + 0.5), top + 43, name, kind="muted small", anchor="middle")
    cells = {(row["fitted"], row["tested"], row["arm"]): row for row in rows}
    y = top + HEAD
    for fitted, name in FORMS.items():
        present = {arm for form, _, arm in cells if form == fitted and arm}
        own = [arm for arm in inputs.studied if arm in present]
        drawing.text(GUTTER - 12, y + ROW / 2 + 4, name if not own else "", kind="muted", anchor="end")
        if not own:
            reason = next((row["reason"] for key, row in cells.items() if key[0] == fitted), "not measured")
            empty_cell(drawing, (GUTTER, y, CELL * len(FORMS), ROW), hint=reason, said=reason)
            y += ROW
        for arm in own:
            drawing.heading_end(GUTTER - 12, y + ROW / 2 + 4, arm, name)
            for index, tested in enumerate(FORMS):
                _cell(drawing, cells.get((fitted, tested, arm)), (GUTTER + CELL * index, y, CELL, ROW), arm)
            y += ROW
    drawing.text(GUTTER - 12, top + 43, "fitted on", kind="muted small", anchor="end")
    return y + 12


def _cell(drawing: Svg, row: dict | None, box: tuple[float, float, float, float], arm: str) -> None:
    if row is None or words.missing(row["estimate"]):
        empty_cell(drawing, box, hint=str(row["reason"] if row else "not measured"))
        return
    spread = words.interval(row["ci_low"], row["ci_high"])
    hint = f"{arm}: T = {words.number(row['estimate'])} ({spread})"
    heat_cell(drawing, box, float(row["estimate"]), words.number(row["estimate"]), hint=hint, below=spread)
