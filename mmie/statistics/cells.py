"""Evaluation rows, aligned: one cell a language and kind of prompt, the same items for every arm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmie.errors import InputError
from mmie.statistics.scores import (
    IN_LANGUAGE,
    MEMBERSHIP_SCORES,
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
    for score in (name for name in (*SCORES, *MEMBERSHIP_SCORES) if name in table):
        values = table[score].astype(float)
        table[score] = values.where(np.isfinite(values))
        if score in UNBOUNDED or score in MEMBERSHIP_SCORES:
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
    metrics = tuple(name for name in (*SCORES, *MEMBERSHIP_SCORES) if name in table)
    # One sort of integer codes puts every cell, arm and seed in one block, its items in order.
    keys = [table["language"], cell_names(table), table["arm"], table["seed"]]
    coded = [pd.factorize(key if key.name == "seed" else key.astype(str), sort=True) for key in keys]
    coded += [pd.factorize(table[name].astype(str), sort=True) for name in ("group", "example_id")]
    codes = np.stack([code for code, _ in coded])
    order = np.lexsort(codes[::-1])
    rows = _Rows(codes[:, order], [list(names) for _, names in coded], metrics,
                 table[list(metrics)].to_numpy(dtype=np.float64)[order])  # fmt: skip
    cells = {}
    for part in rows.blocks(slice(0, len(table)), 2):
        cell = _align(rows, part)
        cells[cell.language, cell.name] = cell
    return cells


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


@dataclass(frozen=True)
class _Rows:
    """Sorted rows: codes [language, cell, arm, seed, cluster, item; rows], what they stand for, scores."""

    codes: NDArray[np.intp]
    names: list[list[Any]]
    metrics: tuple[str, ...]
    scores: NDArray[np.float64]

    def blocks(self, part: slice, keys: int) -> Iterator[slice]:
        """Runs of rows inside a part that agree in their first keys."""
        codes = self.codes[:keys, part]
        ends = np.flatnonzero((codes[:, 1:] != codes[:, :-1]).any(axis=0)) + 1
        for start, end in pairwise([0, *ends.tolist(), codes.shape[1]]):
            yield slice(part.start + start, part.start + end)

    def name(self, key: int, row: int) -> Any:
        return self.names[key][self.codes[key, row]]


def _align(rows: _Rows, part: slice) -> Cell:
    language, name = str(rows.name(0, part.start)), str(rows.name(1, part.start))
    reference: NDArray[np.intp] | None = None
    first = ""
    scores: dict[str, NDArray[np.float64]] = {}
    seeds: dict[str, tuple[Any, ...]] = {}
    for of_arm in rows.blocks(part, 3):
        arm = str(rows.name(2, of_arm.start))
        columns, labels = [], []
        for run in rows.blocks(of_arm, 4):
            seed = rows.name(3, run.start)
            items = rows.codes[4:, run]
            if reference is None:
                reference, first = items, f"{arm}, seed {seed}"
            elif not np.array_equal(items, reference):
                group, item = sorted({*zip(*items.tolist(), strict=True)}
                                     ^ {*zip(*reference.tolist(), strict=True)})[0]  # fmt: skip
                raise InputError(
                    f"evaluation, {language}, {name}: {arm}, seed {seed} and {first} were scored "
                    f"on different items or clusters, first {rows.names[5][item]!r} in "
                    f"{rows.names[4][group]!r}. Evaluate all arms on the same prompts."
                )
            columns.append(rows.scores[run])
            labels.append(seed)
        scores[arm] = np.stack(columns, axis=1)
        seeds[arm] = tuple(labels)
    assert reference is not None  # a block is never empty
    clusters, items_only = (
        tuple(rows.names[key][code] for code in reference[key - 4]) for key in (4, 5)
    )  # fmt: skip
    return Cell(language, name, items_only, clusters, rows.metrics, scores, seeds)


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
    rows = rows.reset_index(drop=True)
    weight = rows["step"].map(dict(zip(steps, width / width.sum(), strict=True)))
    weighted = rows[keys].join(rows[metrics].multiply(weight, axis=0))
    # A missing score at any step leaves the area missing.
    groups = weighted.groupby(keys, as_index=False)[metrics]
    return groups.sum(min_count=len(steps))
