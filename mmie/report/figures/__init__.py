"""The figures of the report: SVG drawn from result tables, the same bytes for the same results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mmie.errors import InputError
from mmie.report.figures.attacks import attacks
from mmie.report.figures.curves import curves
from mmie.report.figures.dose import dose
from mmie.report.figures.kept import kept
from mmie.report.figures.layers import layers
from mmie.report.figures.leak import leak
from mmie.report.figures.rewrites import rewrites
from mmie.report.figures.scripts import scripts
from mmie.report.figures.states import states
from mmie.report.figures.sweep import sweep
from mmie.report.figures.transfer import transfer
from mmie.report.inputs import ReportInputs

_DRAWN: dict[str, Callable[[ReportInputs], str]] = {
    "leak": leak,
    "states": states,
    "transfer": transfer,
    "scripts": scripts,
    "attack": curves,
    "attacks": attacks,
    "rewrites": rewrites,
    "kept": kept,
    "layers": layers,
    "dose": dose,
    "sweep": sweep,
}


def draw_figures(inputs: ReportInputs, arms: Sequence[str] | None = None) -> dict[str, str]:
    """Draw every figure of the report.

    Args:
        inputs: the results.
        arms: arms that must be shown; by default all that have rows.

    Returns:
        SVG by name, each a file of its own that follows the reader's light or dark setting. A figure that
        would show nothing is not among them.

    Raises:
        InputError: an arm was asked for that has no rows.
    """
    absent = sorted(set(arms or ()) - set(inputs.metrics["arm"]))
    if absent:
        raise InputError(f"report: no results of arm {absent[0]!r}. Run it, or take it off the list.")
    drawn = {name: draw(inputs) for name, draw in _DRAWN.items()}
    return {name: svg for name, svg in drawn.items() if svg}
