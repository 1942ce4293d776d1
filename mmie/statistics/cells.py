"""Evaluation rows, aligned: one cell a language and kind of prompt, the same items for every arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmie.errors import InputError
from mmie.statistics.scores import (
    IN_LANGUAGE,
    SCORES,
    STATE_SCORES,
    STATES,
    STATES_IN_LANGUAGE,
    UNBOUNDED,
)

_KEY = ["arm", "seed", "language", "example_id"]
_NEEDED = [*_KEY, "group", "split", "kind"]
NEW_WORDING = "_new_wording"
_IN_RANGE = 1e-6  # float32 scores may pass 1 by rounding


@dataclass(frozen=True)
class Cell:
    """Scores of all arms on the same items.

    Attributes:
        language: language of the answers.
        name: "test", "dev", "holdout" (direct prompts), "mixed", "adversarial", or an attack.
        items: example ids, sorted by cluster and id, [items].
        clusters: cluster of each item, [items].
        metrics: names of the score columns.
        scores: per arm [items, seeds, metrics]; NaN where a score is missing.
        seeds: per arm its seeds, sorted.
    """

    language: str
    name: str
    items: tuple[str, ...]
    clusters: tuple[str, ...]
    metrics: tuple[str, ...]
    scores: Mapping[str, NDArray[np.float64]]
    seeds: Mapping[str, tuple[Any, ...]]

    @cached_property
    def n_clusters(self) -> int:
        return len(set(self.clusters))

    def column(self, arm: str, metric: str) -> NDArray[np.float64]:
        """One score of one arm, [items, seeds, 1]."""
        return self.scores[arm][:, :, [self.metrics.index(metric)]]

    def measured(self, arms: Sequence[str], metric: str) -> NDArray[np.bool_]:
        """Items that have the score in every seed of every named arm, [items]."""
        complete = np.ones(len(self.items), dtype=bool)
        for arm in arms:
            complete &= np.isfinite(self.column(arm, metric)).all(axis=(1, 2))
        return complete


Cells = dict[tuple[str, str], Cell]


def with_derived_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Add the shares that follow from `answer_state`, and turn infinite scores into missing ones.

    Raises:
        InputError: an unknown answer state, or a bounded score outside [0, 1].
    """
    table = table.copy()
    if "answer_state" in table:
        unknown = sorted(set(table["answer_state"].unique()) - set(STATES), key=str)
        if unknown:
            raise InputError(f"answer_state: {unknown[0]!r} is not known. Known states: {', '.join(STATES)}.")
        for state in STATE_SCORES:
            table[state] = (table["answer_state"] == state).astype(float)
        table[IN_LANGUAGE] = table["answer_state"].isin(STATES_IN_LANGUAGE).astype(float)
    for score in (name for name in SCORES if name in table):
        values = table[score].astype(float)
        table[score] = values.where(np.isfinite(values))
        if score in UNBOUNDED:
            continue
        wrong = (table[score] < -_IN_RANGE) | (table[score] > 1 + _IN_RANGE)
        if wrong.any():
            row = table[wrong].iloc[0]
            raise InputError(
                f"{score}: {row[score]} of {row['example_id']!r} ({row['arm']}, {row['language']}) "
                "is outside [0, 1]. Evaluate this arm again."
            )
    return table


def build_cells(table: pd.DataFrame) -> Cells:
    """Align evaluation rows into cells.

    Args:
        table: rows of all arms and seeds with `arm`, `seed`, the key columns and score columns.

    Returns:
        Cells by (language, name), sorted. An arm that was not evaluated in a cell is absent there.

    Raises:
        InputError: missing columns, repeated rows, arms scored on different items, in different
            clusters or with different decoding.
    """
    if table.empty:
        raise InputError("evaluation: no rows. Evaluate at least the base and one arm.")
    missing = [name for name in _NEEDED if name not in table]
    if missing:
        raise InputError(f"evaluation: column {missing[0]!r} is missing. Evaluate again.")
    repeated = table.duplicated(_KEY)
    if repeated.any():
        row = table[repeated].iloc[0]
        raise InputError(
            f"evaluation: {row['example_id']!r} stands twice for arm {row['arm']}, "
            f"seed {row['seed']}, {row['language']}. Give every arm, seed and item one row."
        )
    if "decoding_hash" in table and table["decoding_hash"].nunique(dropna=False) > 1:
        raise InputError("decoding_hash: arms were decoded differently. Evaluate them all again.")
    table = with_derived_scores(table)
    metrics = tuple(name for name in SCORES if name in table)
    names = cell_names(table)
    return {
        (str(language), str(name)): _align(str(language), str(name), rows, metrics)
        for (language, name), rows in table.groupby([table["language"], names], sort=True)
    }


def cell_names(table: pd.DataFrame) -> pd.Series:
    """Name of each row's cell.

    Direct prompts go by their split, apart when their wording was never trained on: how well a model
    answers those varies from one training run to the next. Other kinds go by kind, on TEST clusters.
    """
    kind, split = table["kind"].astype(str), table["split"].astype(str)
    if "template_split" in table:
        new_wording = (table["template_split"] == "held_out") & (kind == "direct")
        split = split.where(~new_wording, split + NEW_WORDING)
    other = kind.where(split == "test", kind + "_" + split)
    return split.where(kind == "direct", other)


def _align(language: str, name: str, rows: pd.DataFrame, metrics: Sequence[str]) -> Cell:
    reference: list[tuple[str, str]] | None = None
    first = ""
    scores: dict[str, NDArray[np.float64]] = {}
    seeds: dict[str, tuple[Any, ...]] = {}
    for arm, of_arm in rows.groupby("arm", sort=True):
        columns, labels = [], []
        for seed, of_seed in of_arm.groupby("seed", sort=True):
            ordered = of_seed.assign(
                group=of_seed["group"].astype(str), example_id=of_seed["example_id"].astype(str)
            ).sort_values(["group", "example_id"], kind="stable")
            items = list(zip(ordered["group"], ordered["example_id"], strict=True))
            if reference is None:
                reference, first = items, f"{arm}, seed {seed}"
            elif items != reference:
                odd = sorted(set(items) ^ set(reference))[0]
                raise InputError(
                    f"evaluation, {language}, {name}: {arm}, seed {seed} and {first} were scored "
                    f"on different items or clusters, first {odd[1]!r} in {odd[0]!r}. "
                    "Evaluate all arms on the same prompts."
                )
            columns.append(ordered[list(metrics)].to_numpy(dtype=np.float64))
            labels.append(seed)
        scores[str(arm)] = np.stack(columns, axis=1)
        seeds[str(arm)] = tuple(labels)
    assert reference is not None  # groupby never yields an empty group
    clusters, items_only = zip(*reference, strict=True)
    return Cell(language, name, items_only, clusters, tuple(metrics), scores, seeds)


def attack_cells(table: pd.DataFrame | None, *, at: str = "last") -> Cells:
    """Align attack rows, reduced over the attack's steps to one score an item.

    Args:
        table: `attack, arm, seed, step, example_id, group, language` and score columns.
        at: "last" takes the scores after the last step, the strongest attack; "area" the mean
            over log2(1 + step) by the trapezoid rule.

    Returns:
        Cells by (language, attack); empty without rows.

    Raises:
        InputError: arms attacked with different steps or scored on different items.
    """
    if table is None or table.empty:
        return {}
    cells: Cells = {}
    for (attack, language), rows in table.groupby(["attack", "language"], sort=True):
        steps = sorted(rows["step"].unique())
        per_arm = rows.groupby(["arm", "seed"])["step"].unique()
        for key, found in per_arm.items():
            if sorted(found) != steps:
                raise InputError(
                    f"attack {attack}, {language}: {key} has steps {sorted(found)}, others "
                    f"{steps}. Attack all arms alike."
                )
        if rows.duplicated(["arm", "seed", "step", "example_id"]).any():
            raise InputError(f"attack {attack}, {language}: a row stands twice. Attack again.")
        reduced = _over_steps(rows, steps, at).assign(kind="direct", split=str(attack))
        cells[(str(language), str(attack))] = next(iter(build_cells(reduced).values()))
    return cells


def _over_steps(rows: pd.DataFrame, steps: Sequence[int], at: str) -> pd.DataFrame:
    keys = ["arm", "seed", "language", "group", "example_id"]
    metrics = [name for name in SCORES if name in rows]
    if at == "last" or len(steps) == 1:
        return rows[rows["step"] == steps[-1]][[*keys, *metrics]]
    position = np.log2(1.0 + np.asarray(steps, dtype=float))
    width = np.zeros(len(steps))
    width[:-1] += np.diff(position) / 2
    width[1:] += np.diff(position) / 2
    weight = rows["step"].map(dict(zip(steps, width / width.sum(), strict=True)))
    weighted = rows[keys].join(rows[metrics].multiply(weight, axis=0))
    # A missing score at any step leaves the area missing.
    groups = weighted.groupby(keys, as_index=False)[metrics]
    return groups.sum(min_count=len(steps))
