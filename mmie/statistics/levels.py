"""Tables that describe: score levels with intervals, per-seed values, transfer, states, curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmie.statistics.cells import STATES, Cell, Cells, cell_names
from mmie.statistics.intervals import bca_intervals
from mmie.statistics.options import Draws, Options
from mmie.statistics.scores import MEMBERSHIP_SCORES, SCORES, TRANSFER_SCORES, direction
from mmie.statistics.transfer import transfer
from mmie.statistics.written_forms import form_of


def levels(
    cells: Cells, forget: Sequence[str], options: Options, draws: Draws
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean score of every arm, language, cell and metric with its interval; and per seed.

    A level is taken over the items that have the score in every seed of that arm; how many have
    not is printed beside it. `status` is "failed" when that is more than `options.max_dropped`, and
    `reason` has the counts. Every arm has a row for every score of every cell: one that was not
    evaluated there has an empty one.

    Returns:
        (metrics, per_seed), sorted by language, split, arm and metric.
    """
    rows, seed_rows = [], []
    arms = sorted({arm for cell in cells.values() for arm in cell.scores})
    for (language, name), cell in sorted(cells.items()):
        for arm in arms:
            found = _levels_of(cell, arm, options, draws) if arm in cell.scores else _absent(cell)
            for row in found:
                way = direction(row["metric"], forget=language in forget, cell=name)
                row = {"arm": arm, "language": language, "split": name, **row, "direction": way}
                for seed, value in zip(cell.seeds.get(arm, ()), row.pop("per_seed"), strict=True):
                    seed_rows.append(
                        {"arm": arm, "seed": seed, "language": language, "split": name,
                         "metric": row["metric"], "estimate": value}
                    )  # fmt: skip
                rows.append(row)
    return pd.DataFrame(rows), pd.DataFrame(seed_rows)


def _levels_of(cell: Cell, arm: str, options: Options, draws: Draws) -> list[dict]:
    resampling = draws.of(cell)
    scores = cell.scores[arm]
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(scores).all(axis=1))
    shares = draws.seeds(arm, scores.shape[1])
    rows: list[dict] = []
    # Metrics that miss the same items are resampled in one matrix product.
    patterns: dict[bytes, list[int]] = {}
    for index in _averaged(cell):
        patterns.setdefault(finite[:, index].tobytes(), []).append(index)
    for indices in patterns.values():
        valid = finite[:, indices[0]]
        part = scores[:, :, indices]
        result = resampling.means(part, valid=valid, seed_shares=shares)
        intervals = bca_intervals(result, options.alpha)
        clusters = len(np.unique(resampling.clusters[valid]))
        for column, index in enumerate(indices):
            rows.append({
                "metric": cell.metrics[index],
                "estimate": float(result.point[column]),
                "ci_low": float(intervals.low[column]),
                "ci_high": float(intervals.high[column]),
                "ci_method": intervals.method[column],
                "n_seeds": scores.shape[1],
                "n_items": int(valid.sum()),
                "n_clusters": clusters,
                "n_missing": int((~valid).sum()),
                **_status(valid, intervals.reason[column], options),
                "per_seed": _per_seed(part[:, :, column], resampling.item_scale(valid)),
            })  # fmt: skip
    return sorted(rows, key=lambda row: cell.metrics.index(row["metric"]))


def _averaged(cell: Cell) -> list[int]:
    """Columns that have a mean: all but those of which only ranks mean something."""
    return [index for index, name in enumerate(cell.metrics) if name not in MEMBERSHIP_SCORES]


def _status(valid: NDArray[np.bool_], reason: str, options: Options) -> dict[str, str]:
    missing = int((~valid).sum())
    if missing <= options.max_dropped * len(valid):
        return {"status": "measured", "reason": reason}
    said = "no item has this score" if not valid.any() else f"{missing} of {len(valid)} items have no score"
    return {"status": "failed", "reason": said}


def _absent(cell: Cell) -> list[dict]:
    nothing = dict.fromkeys(("estimate", "ci_low", "ci_high"), float("nan"))
    counts = {"n_seeds": 0, "n_items": 0, "n_clusters": 0, "n_missing": len(cell.items)}
    return [
        {"metric": cell.metrics[index], **nothing, "ci_method": "none", **counts,
         "status": "failed", "reason": "not evaluated there", "per_seed": []}
        for index in _averaged(cell)
    ]  # fmt: skip


def _per_seed(scores: np.ndarray, scale: np.ndarray) -> list[float]:
    if not scale.any():
        return [float("nan")] * scores.shape[1]
    weighted = np.where(scale[:, None] > 0, scores, 0.0) * scale[:, None]
    return [float(value) for value in weighted.sum(axis=0) / scale.sum()]


def transfer_matrix(cells: Cells, options: Options, draws: Draws) -> pd.DataFrame:
    """T of every arm in every language and cell: 0 for the base, 1 for the oracle.

    NaN with a reason where there is nothing to forget, as in languages that the oracle knows. `form`
    is the script of the language (native, romanised); mixed wordings are the cell "mixed". Rows of
    arms with a known verdict are marked `calibration`: 0 for the base is no result.
    """
    rows = []
    for (language, name), cell in sorted(cells.items()):
        if name == "dev" or name.endswith("_dev") or options.base not in cell.scores:
            continue
        for metric in (score for score in TRANSFER_SCORES if score in cell.metrics):
            for arm in sorted(cell.scores):
                rows.append({
                    "arm": arm, "language": language, "form": form_of(language), "split": name,
                    "metric": metric, "calibration": arm in (*options.calibration, options.reference),
                    **_transfer_of(cell, arm, metric, options, draws),
                })  # fmt: skip
    return pd.DataFrame(rows)


def _transfer_of(cell: Cell, arm: str, metric: str, options: Options, draws: Draws) -> dict:
    names = [options.base, arm]
    if options.reference in cell.scores:
        names.append(options.reference)
    valid = cell.measured(names, metric)
    dropped = int((~valid).sum())
    if dropped > options.max_dropped * len(valid):
        reason = f"{dropped} of {len(valid)} items have no score"
        return {"estimate": np.nan, "ci_low": np.nan, "ci_high": np.nan, "reason": reason}

    oracle = draws.means(cell, options.reference, metric, valid) if len(names) > 2 else None
    found = transfer(
        draws.means(cell, arm, metric, valid), draws.means(cell, options.base, metric, valid), oracle,
        alpha=options.alpha, smallest=options.smallest_denominator,
    )  # fmt: skip
    return {
        "estimate": found.estimate,
        "ci_low": found.interval.low,
        "ci_high": found.interval.high,
        "reason": found.reason,
    }


def answer_states(table: pd.DataFrame) -> pd.DataFrame:
    """Share of answers in each state: arm, language, split, state, rate; rates sum to 1."""
    columns = ["arm", "language", "split", "state", "rate"]
    if "answer_state" not in table:
        return pd.DataFrame(columns=columns)
    keyed = table.assign(split=cell_names(table))
    keys = ["arm", "language", "split"]
    counts = keyed.groupby([*keys, "answer_state"]).size().unstack(fill_value=0)
    counts = counts.reindex(columns=list(STATES), fill_value=0)
    rates = counts.div(counts.sum(axis=1), axis=0)
    tall = rates.reset_index().melt(keys, list(STATES), var_name="state", value_name="rate")
    return tall[columns].sort_values(columns[:4], ignore_index=True)


def attack_curves(table: pd.DataFrame | None) -> pd.DataFrame:
    """Mean score after every step of every attack, clusters weighing equally; base included."""
    keys = ["attack", "arm", "language", "step"]
    if table is None or table.empty:
        return pd.DataFrame(columns=[*keys, "metric", "estimate", "n_seeds"])
    metrics = [name for name in SCORES if name in table]
    ordered = table.sort_values([*keys, "seed", "group", "example_id"], kind="stable")
    clusters = ordered.groupby([*keys, "seed", "group"])[metrics].mean()
    seeds = clusters.groupby([*keys, "seed"]).mean()
    tall = seeds.groupby(keys).mean().reset_index()
    tall = tall.melt(keys, metrics, var_name="metric", value_name="estimate")
    n_seeds = seeds.reset_index().groupby(keys)["seed"].nunique().rename("n_seeds").reset_index()
    tall = tall.merge(n_seeds, on=keys, validate="many_to_one")
    return tall.sort_values([*keys, "metric"], ignore_index=True)
