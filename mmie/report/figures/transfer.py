"""The transfer matrix: how far each arm went from the base (0) to the oracle (1), per query."""

from __future__ import annotations

from mmie.report import words
from mmie.report.figures.heat import empty_cell, heat_cell, transfer_key, two_lines
from mmie.report.inputs import ReportInputs
from mmie.report.svg import Svg

WIDTH, GUTTER, ROW, HEAD, FOOT = 980.0, 118.0, 40.0, 62.0, 50.0
WIDEST = 150.0


def transfer(inputs: ReportInputs) -> str:
    """T on the leak rate, arms by language and kind of prompt, where there is anything to forget."""
    cells = _cells(inputs)
    columns = _columns(inputs, cells)
    if not columns:
        return ""
    drawing = Svg("transfer", WIDTH, "Transfer matrix: 0 is the base, 1 the oracle")
    width = min(WIDEST, (WIDTH - GUTTER) / max(1, len(columns)))
    split = 8.0 if inputs.studied and inputs.known else 0.0
    for index, (language, cell) in enumerate(columns):
        x = GUTTER + index * width
        if index == 0 or columns[index - 1][0] != language:
            drawing.text(x + 4, 18, words.language(language), kind="strong")
            drawing.line(x + 2, 25, x + width * _run(columns, index) - 2, 25, kind="axis")
        two_lines(drawing, x + width / 2, 54, words.cell(cell))
        for row, arm in enumerate(inputs.arms):
            y = HEAD + ROW * row + (split if row >= len(inputs.studied) else 0)
            if index == 0:
                kind = "strong" if arm in inputs.studied else "muted"
                drawing.text(GUTTER - 12, y + ROW / 2 + 4, arm, kind=kind, anchor="end")
            box = (x, y, width, ROW)
            _cell(drawing, cells.get((arm, language, cell)), box, f"{arm}, {words.language(language)}")
    bottom = HEAD + ROW * len(inputs.arms) + split
    transfer_key(drawing, GUTTER, bottom + 20)
    return drawing.render(bottom + FOOT)


def nothing_to_forget(inputs: ReportInputs) -> list[str]:
    """Languages in which no cell of the matrix could be measured."""
    cells = _cells(inputs)
    shown = {language for language, _ in _columns(inputs, cells)}
    return [language for language in inputs.languages if language not in shown]


def _cells(inputs: ReportInputs) -> dict[tuple[str, str, str], dict]:
    """By (arm, language, cell)."""
    matrix = inputs.table("transfer")
    # Verdicts rest on TEST; DEV chose and holdout facts were never there to forget.
    set_aside = matrix["split"].str.startswith(("dev", "holdout"))
    matrix = matrix[(matrix["metric"] == "leak") & ~set_aside]
    return {(str(r["arm"]), str(r["language"]), str(r["split"])): r for r in matrix.to_dict("records")}


def _columns(inputs: ReportInputs, cells: dict[tuple[str, str, str], dict]) -> list[tuple[str, str]]:
    order = list(words.CELLS)
    present = {key[1:] for key in cells}
    forget = inputs.roles["forget"]
    measured = {key[1:] for key, row in cells.items() if not words.missing(row["estimate"])}
    wanted = [key for key in present if key in measured or key[0] in forget]

    def place(key: tuple[str, str]) -> tuple[int, int, str]:
        cell = order.index(key[1]) if key[1] in order else len(order)
        return inputs.languages.index(key[0]), cell, key[1]

    return sorted((key for key in wanted if key[0] in inputs.languages), key=place)


def _run(columns: list[tuple[str, str]], start: int) -> int:
    return sum(1 for column in columns[start:] if column[0] == columns[start][0])


def _cell(drawing: Svg, row: dict | None, box: tuple[float, float, float, float], where: str) -> None:
    if row is None or words.missing(row["estimate"]):
        reason = str(row.get("reason") or "not measured") if row is not None else "not measured"
        empty_cell(drawing, box, hint=f"{where}: {reason}")
        return
    value, spread = float(row["estimate"]), words.interval(row["ci_low"], row["ci_high"])
    hint = f"{where}: T = {words.number(value)} ({spread})"
    heat_cell(drawing, box, value, words.number(value), hint=hint, below=spread)
