"""Fitted in one script, asked in another: does forgetting follow the language or its letters?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmie.statistics.bootstrap import Resampled, combine
from mmie.statistics.cells import Cells
from mmie.statistics.options import Draws, Options
from mmie.statistics.transfer import transfer

FORMS = ("native", "romanised", "both")
COLUMNS = (
    "fitted", "tested", "arm", "language", "split", "metric", "estimate", "ci_low", "ci_high", "reason",
)  # fmt: skip
_METRIC = "leak"


def form_of(code: str) -> str:
    """Written form of a language code: `hi` is native, `hi_Latn` romanised."""
    return "romanised" if code.endswith("_Latn") else "native"


def script_matrix(
    cells: Cells, forget: Sequence[str], options: Options, draws: Draws, *, split: str = "test"
) -> pd.DataFrame:
    """Transfer by the form an arm was fitted on and the form it is asked in: nine cells a language.

    A cell without an arm, or without a written form, stands there with the reason. "both" as the
    form asked is the mean score of an item in the two forms, resampled together.

    Args:
        cells: aligned evaluation scores.
        forget: forget languages in all their written forms; what an arm was fitted on, unless
            `options.written_forms` says otherwise.
        split: cell of each language to read.

    Returns:
        fitted, tested (native, romanised, both), arm (empty where none was fitted so), language
        without script, split, metric, estimate, ci_low, ci_high, reason.
    """
    arms = sorted({arm for cell in cells.values() for arm in cell.scores})
    studied = [arm for arm in arms if arm not in (*options.calibration, options.reference)]
    rows = []
    for language in sorted({code.partition("_")[0] for code in forget}):
        codes = {form_of(code): code for code in sorted(forget) if code.partition("_")[0] == language}
        fitted = {arm: _fitted(options.written_forms.get(arm, forget), codes) for arm in studied}
        for left in FORMS:
            own = [arm for arm in studied if fitted[arm] == left]
            for right in FORMS:
                key = {"fitted": left, "tested": right, "language": language, "split": split,
                       "metric": _METRIC}  # fmt: skip
                for arm in own:
                    found = _transfer(cells, codes, right, arm, split, options, draws)
                    rows.append({**key, "arm": arm, **found})
                if not own:
                    rows.append({**key, "arm": "", **_missing("no arm was fitted on this form alone"
                                 if left != "both" else "no arm was fitted on both forms")})  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _fitted(languages: Sequence[str], codes: dict[str, str]) -> str:
    forms = {form for form, code in codes.items() if code in languages}
    return "both" if len(forms) == 2 else next(iter(forms), "none")


def _transfer(
    cells: Cells, codes: dict[str, str], form: str, arm: str, split: str, options: Options, draws: Draws
) -> dict[str, object]:
    forms = FORMS[:2] if form == "both" else (form,)
    absent = [name for name in forms if name not in codes]
    if absent:
        return _missing(f"no {absent[0]} form of the language is configured")
    found = [cells.get((codes[name], split)) for name in forms]
    asked = [cell for cell in found if cell is not None]
    if len(asked) < len(forms) or any(_METRIC not in cell.metrics for cell in asked):
        return _missing("not evaluated there")
    names = [options.base, arm, options.reference]
    present = [name for name in names if all(name in cell.scores for cell in asked)]
    if not {arm, options.base} <= set(present):
        return _missing("not evaluated there")
    if len({(cell.items, cell.clusters) for cell in asked}) > 1:
        return _missing("the two forms were asked on different items")
    valid = np.logical_and.reduce([cell.measured(present, _METRIC) for cell in asked])
    if (~valid).sum() > options.max_dropped * len(valid):
        return _missing(f"{int((~valid).sum())} of {len(valid)} items have no score")
    means = {name: _mean([draws.means(cell, name, _METRIC, valid) for cell in asked]) for name in present}
    ratio = transfer(
        means[arm], means[options.base], means.get(options.reference),
        alpha=options.alpha, smallest=options.smallest_denominator,
    )  # fmt: skip
    return {
        "estimate": ratio.estimate, "ci_low": ratio.interval.low, "ci_high": ratio.interval.high,
        "reason": ratio.reason or ratio.interval.reason,
    }  # fmt: skip


def _mean(parts: list[Resampled]) -> Resampled:
    return combine(lambda *arrays: sum(arrays) / len(arrays), *parts)


def _missing(reason: str) -> dict[str, object]:
    return {"estimate": math.nan, "ci_low": math.nan, "ci_high": math.nan, "reason": reason}
