"""The figures of the report: SVG drawn from result tables, the same bytes for the same results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mmie.errors import InputError
from mmie.report.figures.curves import curves
from mmie.report.figures.kept import kept
from mmie.report.figures.layers import layers
from mmie.report.figures.leak import leak
from mmie.report.figures.states import states
from mmie.report.figures.transfer import transfer
from mmie.report.inputs import ReportInputs

_DRAWN: dict[str, Callable[[ReportInputs], str]] = {
    "leak": leak,
    "states": states,
    "transfer": transfer,
    "attack": curves,
    "kept": kept,
    "layers": layers,
}


def draw_figures(inputs: ReportInputs, arms: Sequence[str] | None = None) -> dict[str, str]:
    """Draw every figure of the report.

    Args:
        inputs: the results.
        arms: arms that must be shown; by default all that have rows.

    Returns:
        SVG by name, each a file of its own that follows the reader's light or dark setting.

    Raises:
        InputError: an arm was asked for that has no rows.
    """
    absent = sorted(set(arms or ()) - set(inputs.metrics["arm"]))
    if absent:
        raise InputError(f"report: no results of arm {absent[0]!r}. Run it, or take it off the list.")
    return {name: draw(inputs) for name, draw in _DRAWN.items()}
