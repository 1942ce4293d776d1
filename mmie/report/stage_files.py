"""What stages left beside the summary: depth, rewrites, steering, latents, doses, sweeps.

A stage that was not run leaves an empty table; what was left must have its columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mmie.depth.summary import COLUMNS as DEPTH_COLUMNS
from mmie.depth.summary import summarise
from mmie.errors import InputError
from mmie.io import read_json, read_parquet

CONTEXT_COLUMNS = ("layer", "latent", "rank", "code", "language", "before", "token", "after")
RATE_COLUMNS = ("arm", "language", "variant", "leak", "n_items")
DOSE_COLUMNS = ("arm", "language", "share", "strength", "leak", "correct")
TRIAL_COLUMNS = ("trial", "number", "s_mem", "admissible")


def read_depth(root: Path, *, oracle: str, calibration: Sequence[str]) -> pd.DataFrame:
    """One row an arm, seed and measure, as `mmie.depth.summary.summarise` makes it.

    Args:
        root: folder of an experiment.
        oracle: arm that depth is normalised by.
        calibration: arms whose values test the measurement.
    """
    table = _read_all(root / "depth", "*/seed*.parquet", ("arm", "seed", "layer", "measure", "value"))
    if table.empty:
        return pd.DataFrame(columns=list(DEPTH_COLUMNS))
    return summarise(table, base="base", oracle=oracle, calibration=list(calibration))


def read_rewrites(root: Path) -> pd.DataFrame:
    """Leak rate of every arm, language and rewrite of the prompts: `RATE_COLUMNS`."""
    return leak_rates(read_attack(root, "rewrite_variants"), ("arm", "language", "variant"))


def read_steering(root: Path) -> pd.DataFrame:
    """Leak rate after a push along a random direction; `variant` has layer and strength of all seeds."""
    return steering_rates(read_attack(root, "steer_random"))


def steering_rates(rows: pd.DataFrame) -> pd.DataFrame:
    """`RATE_COLUMNS` of rows of the random control; every seed chose a place of its own."""
    if rows.empty:
        return pd.DataFrame(columns=list(RATE_COLUMNS))
    places = rows.groupby(["arm", "language"])["variant"].agg(lambda found: "; ".join(sorted(set(found))))
    rates = leak_rates(rows, ("arm", "language"))
    return rates.merge(places.reset_index(), on=["arm", "language"], validate="one_to_one")


def read_attack(root: Path, attack: str) -> pd.DataFrame:
    """All rows of an attack, or of a table beside one."""
    columns = ("arm", "seed", "language", "variant", "group", "example_id", "leak")
    return _read_all(root / "attack" / attack, "*/seed*.parquet", columns)


def leak_rates(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Mean over seeds of the mean over clusters of the mean over items, as scores are averaged everywhere.

    Args:
        rows: attack rows.
        keys: columns to keep apart.
    """
    if rows.empty:
        return pd.DataFrame(columns=list(RATE_COLUMNS))
    grouping = list(keys)
    clusters = rows.groupby([*grouping, "seed", "group"])["leak"].mean()
    rates = clusters.groupby([*grouping, "seed"]).mean().groupby(grouping).mean().reset_index()
    items = rows.groupby(grouping)["example_id"].nunique().rename("n_items").reset_index()
    return rates.merge(items, on=grouping, validate="one_to_one")


def read_contexts(root: Path) -> pd.DataFrame:
    """Strongest contexts of the picked latents; empty where none were stored."""
    file = root / "features" / "contexts.parquet"
    return _checked(read_parquet(file), CONTEXT_COLUMNS, file) if file.exists() else pd.DataFrame()


def read_optional(file: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where the stage was not run."""
    return dict(read_json(file)) if file.exists() else {}


def read_doses(root: Path) -> pd.DataFrame:
    """Leak and accuracy by arm, language and share of the strength; the base has no share."""
    table = _read_all(
        root / "dose", "*/seed*.parquet", ("arm", "seed", "share", "strength", "language", "group", "leak")
    )
    return dose_rates(table)


def dose_rates(rows: pd.DataFrame) -> pd.DataFrame:
    """`DOSE_COLUMNS`: mean over clusters of the mean over items, of one seed an arm."""
    if rows.empty:
        return pd.DataFrame(columns=list(DOSE_COLUMNS))
    keys = ["arm", "language", "share", "strength"]
    clusters = rows.groupby([*keys, "group"], dropna=False)[["leak", "correct"]].mean()
    return clusters.groupby(keys, dropna=False).mean().reset_index()


def read_sweeps(root: Path) -> dict[str, dict[str, Any]]:
    """By swept arm: "choice", the content of chosen.json, and "trials", one row a trial."""
    found = {}
    for file in sorted((root / "sweep").glob("*/chosen.json")):
        trials = file.with_name("trials.parquet")
        table = _checked(read_parquet(trials), TRIAL_COLUMNS, trials)
        found[file.parent.name] = {"choice": read_json(file), "trials": table}
    return found


def _read_all(folder: Path, pattern: str, columns: Sequence[str]) -> pd.DataFrame:
    files = sorted(folder.glob(pattern))
    if not files:
        return pd.DataFrame(columns=list(columns))
    return pd.concat([_checked(read_parquet(file), columns, file) for file in files], ignore_index=True)


def _checked(table: pd.DataFrame, columns: Sequence[str], file: Path) -> pd.DataFrame:
    for column in columns:
        if column not in table:
            raise InputError(f"{file}: column {column!r} is missing. Run the stage that writes it again.")
    return table
