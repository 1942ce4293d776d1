"""Can a probe still read the language out of an arm, and is that any different from the base?"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from mmie.errors import InputError
from mmie.statistics.auc import TwoClasses
from mmie.statistics.bootstrap import Resampled, draw
from mmie.statistics.intervals import bca_interval
from mmie.statistics.options import Options

COLUMNS = (
    "arm", "auc", "auc_low", "auc_high", "change", "change_low", "change_high", "changed", "calibration",
    "reason",
)  # fmt: skip
_NEEDED = ("arm", "seed", "example_id", "group", "label", "score")


def recoverability(rows: pd.DataFrame, options: Options) -> pd.DataFrame:
    """AUC of a probe for every arm, and whether it differs from the base on the same items.

    A probe separates the classes in every working model, so its AUC says nothing about an arm. What
    says something is the paired change against the base, beside the same change of the random control
    and of the retrained oracle. `changed` is True when the interval of the change, at level
    1 - alpha, leaves out 0. Predictions are fixed; clusters of the two classes are resampled apart.

    Args:
        rows: probe predictions on TEST items: arm, seed, example_id, group, label (1 where the
            property is there, else 0), score (higher speaks for 1).
        options: names of the arms, level and number of resamples.

    Returns:
        One row an arm; descriptive, no gate reads it.

    Raises:
        InputError: a missing column, no row of the base, arms probed on different items.
    """
    missing = [name for name in _NEEDED if name not in rows]
    if missing:
        raise InputError(f"probes: column {missing[0]!r} is missing. Probe again.")
    if options.base not in set(rows["arm"]):
        raise InputError(f"probes: no rows of {options.base!r}. Probe the base too.")
    tables = {str(arm): _scores(own) for arm, own in rows.groupby("arm", sort=True)}
    base = tables[options.base]
    classes = _classes(base, options)
    found = {arm: _auc(classes, table, base, arm) for arm, table in tables.items()}
    return pd.DataFrame(
        [_row(arm, own, found[options.base], options) for arm, own in found.items()], columns=list(COLUMNS)
    )


def _scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Scores by (label, group, example_id), a column a seed."""
    keys = ["label", "group", "example_id"]
    if rows.duplicated([*keys, "seed"]).any():
        raise InputError("probes: a prediction stands twice. Give every arm, seed and item one row.")
    return rows.pivot(index=keys, columns="seed", values="score").sort_index()


def _classes(table: pd.DataFrame, options: Options) -> TwoClasses:
    drawn = []
    for label in (1, 0):
        part = table[table.index.get_level_values("label") == label]
        drawn.append(
            draw(
                part.index.get_level_values("group").astype(str).tolist(),
                part.index.get_level_values("example_id").astype(str).tolist(),
                options.n_resamples,
                names=(options.experiment, "probe", label),
                weight=options.weight,
            )
        )
    everything = [np.ones(drawing.counts.shape[1], dtype=bool) for drawing in drawn]
    return TwoClasses(drawn[0], drawn[1], everything[0], everything[1])


def _auc(classes: TwoClasses, table: pd.DataFrame, base: pd.DataFrame, arm: str) -> Resampled:
    if not table.index.equals(base.index) or table.isna().any(axis=None):
        raise InputError(f"probes: {arm} was probed on other items than the base. Probe all arms alike.")
    labels = table.index.get_level_values("label").to_numpy()
    scores = table.to_numpy(dtype=np.float64)
    return classes.auc(scores[labels == 1], scores[labels == 0])


def _row(arm: str, own: Resampled, base: Resampled, options: Options) -> dict[str, object]:
    level = bca_interval(own, options.alpha)
    change = own - base
    interval = bca_interval(change, options.alpha)
    measured = not math.isnan(interval.low)
    return {
        "arm": arm, "auc": float(own.point[0]), "auc_low": level.low, "auc_high": level.high,
        "change": float(change.point[0]), "change_low": interval.low, "change_high": interval.high,
        "changed": measured and not interval.contains(0.0),
        "calibration": arm in (*options.calibration, options.reference),
        "reason": interval.reason,
    }  # fmt: skip
