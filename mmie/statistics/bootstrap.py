"""Hierarchical paired bootstrap through one table of item counts.

Clusters are drawn with replacement, then items inside every drawn cluster; all arms, metrics and
parallel languages share the draw, so every contrast is paired inside each resample. A draw is
stored as how often each item was taken; the estimand of all columns is then one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmie.errors import InputError
from mmie.io import seed_from

Floats = NDArray[np.float64]
Weight = Literal["cluster", "item"]
_ROWS_AT_ONCE = 2048  # counts are small integers; only this many rows exist as float64 at a time


@dataclass(frozen=True)
class Resampled:
    """One statistic per column: its estimate, its resamples and its jackknife values.

    Attributes:
        point: the estimate on the data, [columns].
        draws: the estimate in every resample, [resamples, columns]; NaN where undefined.
        jackknife: the estimate without cluster i, [clusters, columns].
    """

    point: Floats
    draws: Floats
    jackknife: Floats

    def __sub__(self, other: Resampled) -> Resampled:
        return combine(lambda left, right: left - right, self, other)

    def column(self, index: int) -> Resampled:
        """One column, kept two-dimensional."""
        part = slice(index, index + 1)
        return Resampled(self.point[part], self.draws[:, part], self.jackknife[:, part])


def combine(statistic: Callable[..., Floats], *parts: Resampled) -> Resampled:
    """Apply a function of means (difference, ratio, transfer) inside every resample.

    The parts must come from the same Resampling and the same valid items. Values that are not
    finite, such as a ratio whose denominator is 0, become NaN.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        results = [
            np.asarray(statistic(*arrays), dtype=np.float64)
            for arrays in (
                [part.point for part in parts],
                [part.draws for part in parts],
                [part.jackknife for part in parts],
            )
        ]
    point, draws, jackknife = (np.where(np.isfinite(array), array, np.nan) for array in results)
    return Resampled(point, draws, jackknife)


@dataclass(frozen=True)
class Resampling:
    """The draws of one item table.

    Attributes:
        clusters: cluster of each item as a number from 0, [items].
        n_clusters: number of clusters.
        counts: how often each item was drawn, [resamples, items].
        weight: "cluster" lets every cluster weigh equally, "item" every item.
    """

    clusters: NDArray[np.intp]
    n_clusters: int
    counts: NDArray[np.uint16]
    weight: Weight

    @property
    def n_resamples(self) -> int:
        return int(self.counts.shape[0])

    def item_scale(self, valid: NDArray[np.bool_]) -> Floats:
        """Weight of each item in the estimand before normalisation, [items]; 0 where not valid."""
        if self.weight == "item":
            return valid.astype(np.float64)
        sizes = np.bincount(self.clusters[valid], minlength=self.n_clusters)
        scale = np.zeros(len(self.clusters))
        scale[valid] = 1.0 / sizes[self.clusters[valid]]
        return scale

    def means(
        self,
        scores: Floats,
        *,
        valid: NDArray[np.bool_] | None = None,
        seed_shares: Floats | None = None,
    ) -> Resampled:
        """Mean over seeds of the mean over clusters of the mean over items, resampled.

        Args:
            scores: item scores, [items, seeds, columns].
            valid: items that count, [items]; all by default. Scores there must be finite.
            seed_shares: share of each seed in every resample, [resamples, seeds] (`draw_seeds`);
                by default the seeds are not resampled and weigh equally.
        """
        items, seeds, columns = scores.shape
        valid = np.ones(items, dtype=bool) if valid is None else valid
        if not valid.any():
            empty = np.full(columns, np.nan)
            draws = np.full((self.n_resamples, columns), np.nan)
            return Resampled(empty, draws, np.empty((0, columns)))
        flat = scores.reshape(items, seeds * columns)
        # Measured from one item's score, so that constant scores stay exactly constant and large,
        # nearly equal scores keep their digits.
        origin = flat[int(np.argmax(valid))]
        scale = self.item_scale(valid)
        centred = np.where(valid[:, None], flat - origin, 0.0) * scale[:, None]

        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = self._weighted(np.column_stack([centred, scale]))
            draws = origin + drawn[:, :-1] / drawn[:, -1:]
        totals, total = centred.sum(axis=0), scale.sum()
        in_cluster = np.stack(
            [np.bincount(self.clusters, column, self.n_clusters) for column in centred.T], axis=1
        )
        of_cluster = np.bincount(self.clusters, scale, self.n_clusters)
        used = of_cluster > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            without = origin + (totals - in_cluster[used]) / (total - of_cluster[used])[:, None]

        def over_seeds(array: Floats, shares: Floats | None = None) -> Floats:
            array = array.reshape(*array.shape[:-1], seeds, columns)
            first = array[..., :1, :]
            weights = np.full(seeds, 1.0 / seeds) if shares is None else shares
            return first[..., 0, :] + ((array - first) * weights[..., None]).sum(axis=-2)

        return Resampled(
            over_seeds(origin + totals / total),
            over_seeds(draws, seed_shares),
            over_seeds(without),
        )

    def cluster_means(self, scores: Floats, valid: NDArray[np.bool_] | None = None) -> Floats:
        """Value of each cluster, [clusters with valid items], whose plain mean is the estimand.

        Under item weighting a cluster's mean is scaled by its share of the items.

        Args:
            scores: one score an item, [items].
            valid: items that count, [items].
        """
        valid = np.ones(len(scores), dtype=bool) if valid is None else valid
        codes = self.clusters[valid]
        sizes = np.bincount(codes, minlength=self.n_clusters)
        used = sizes > 0
        origin = scores[valid][0] if valid.any() else 0.0
        sums = np.bincount(codes, scores[valid] - origin, self.n_clusters)
        means: Floats = origin + sums[used] / sizes[used]
        if self.weight == "item":
            means = means * sizes[used] * used.sum() / sizes.sum()
        return means

    def _weighted(self, columns: Floats) -> Floats:
        """Counts times columns, [resamples, columns], without a float copy of all counts."""
        result = np.empty((self.n_resamples, columns.shape[1]))
        for start in range(0, self.n_resamples, _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            result[rows] = self.counts[rows].astype(np.float64) @ columns
        return result


def draw(
    clusters: Sequence[str],
    items: Sequence[str],
    n_resamples: int,
    *,
    names: Sequence[object],
    weight: Weight = "cluster",
) -> Resampling:
    """Draw the resamples of one item table.

    Args:
        clusters: cluster of each item.
        items: id of each item, unique.
        n_resamples: how many resamples, at least 1 (intervals need 1,000).
        names: what the generator is seeded from; equal names and tables give equal draws.
        weight: "cluster" or "item".

    Raises:
        InputError: no items, repeated ids, or ids and clusters of different length.
    """
    if len(items) == 0 or len(items) != len(clusters):
        raise InputError(
            f"bootstrap: {len(items)} items and {len(clusters)} clusters. "
            "Give one cluster for each of at least one item."
        )
    if len(set(items)) != len(items):
        raise InputError("bootstrap: item ids repeat. Give each item once.")
    # Drawing in sorted order makes the draw of an item independent of where its row stood.
    order = sorted(range(len(items)), key=lambda row: (clusters[row], items[row]))
    levels, codes = np.unique(np.asarray([clusters[row] for row in order]), return_inverse=True)
    sizes = np.bincount(codes)
    rng = np.random.default_rng(seed_from("bootstrap", *names))
    n_clusters = len(levels)
    drawn = rng.integers(n_clusters, size=(n_resamples, n_clusters))
    flat = (drawn + np.arange(n_resamples)[:, None] * n_clusters).ravel()
    times = np.bincount(flat, minlength=n_resamples * n_clusters).reshape(n_resamples, n_clusters)

    sorted_counts = np.empty((n_resamples, len(items)), dtype=np.uint16)
    start = 0
    for cluster, size in enumerate(sizes):
        picks = times[:, cluster] * size
        rows = np.repeat(np.arange(n_resamples), picks)
        chosen = rows * size + rng.integers(size, size=len(rows))
        block = np.bincount(chosen, minlength=n_resamples * size).reshape(n_resamples, size)
        sorted_counts[:, start : start + size] = block
        start += size
    counts = np.empty_like(sorted_counts)
    counts[:, order] = sorted_counts
    in_order = np.empty(len(items), dtype=np.intp)
    in_order[order] = codes
    return Resampling(in_order, n_clusters, counts, weight)


def draw_seeds(n_seeds: int, n_resamples: int, *, names: Sequence[object]) -> Floats | None:
    """Share of each seed in every resample, [resamples, seeds]; None for a single run.

    Seeds are drawn with replacement. A single run is treated as fixed: its interval leaves out
    training noise, and the report says so.
    """
    if n_seeds < 2:
        return None
    rng = np.random.default_rng(seed_from("seeds", *names))
    return rng.multinomial(n_seeds, np.full(n_seeds, 1.0 / n_seeds), size=n_resamples) / n_seeds
