"""Areas under the curve whose two classes have clusters of their own, resampled apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmie.statistics.bootstrap import Floats, Resampled, Resampling

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class TwoClasses:
    """The draws of the items of both classes.

    Attributes:
        positives, negatives: independent draws; clusters (or items) weigh equally within a class.
        of_positives, of_negatives: items that count.
    """

    positives: Resampling
    negatives: Resampling
    of_positives: NDArray[np.bool_]
    of_negatives: NDArray[np.bool_]

    def auc(self, positive: Floats, negative: Floats, seed_shares: Floats | None = None) -> Resampled:
        """Probability that a positive item scores above a negative one, ties counting half.

        It is recomputed in every resample from the drawn items; seeds are averaged last. The values
        of `jackknife` are scaled so that its acceleration is Efron's for two samples.

        Args:
            positive: scores of the positive items, [items, seeds]; finite where they count.
            negative: scores of the negative items, [items, seeds].
            seed_shares: share of each seed in every resample, [resamples, seeds].

        Returns:
            One column; NaN without an item in either class.
        """
        left, right = self.of_positives, self.of_negatives
        seeds = positive.shape[1]
        if not (left.any() and right.any()):
            return Resampled(np.full(1, np.nan), np.full((len(self.positives.counts), 1), np.nan),
                             np.empty((0, 1)))  # fmt: skip
        runs = [self._run(_above(positive[left, seed], negative[right, seed])) for seed in range(seeds)]
        point, draws, jackknife = (np.stack(part, axis=-1) for part in zip(*runs, strict=True))
        shares = np.full((1, seeds), 1.0 / seeds) if seed_shares is None else seed_shares
        # Measured from the first seed, so that equal seeds stay exactly equal.
        drawn = draws[:, 0] + ((draws - draws[:, :1]) * shares).sum(axis=1)
        return Resampled(
            np.atleast_1d(point[0] + (point - point[0]).mean()), drawn[:, None],
            jackknife.mean(axis=1)[:, None],
        )  # fmt: skip

    def _run(self, above: Floats) -> tuple[Floats, Floats, Floats]:
        """(point, draws, jackknife) of one seed from its table of comparisons, [positive, negative]."""
        left = self.positives.item_scale(self.of_positives)[self.of_positives]
        right = self.negatives.item_scale(self.of_negatives)[self.of_negatives]
        left, right = left / left.sum(), right / right.sum()
        # Of the distance to 1/2, which is exact where nothing tells the classes apart.
        above = above - 0.5
        point = left @ above @ right
        draws = self._drawn(above, left, right)
        jackknife = np.concatenate([
            _left_out(self.positives.clusters[self.of_positives], above @ right, left, point),
            _left_out(self.negatives.clusters[self.of_negatives], left @ above, right, point),
        ])  # fmt: skip
        return point + 0.5, draws + 0.5, jackknife + 0.5

    def _drawn(self, above: Floats, left: Floats, right: Floats) -> Floats:
        result = np.empty(len(self.positives.counts))
        for start in range(0, len(result), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            first = self.positives.counts[rows][:, self.of_positives] * left
            second = self.negatives.counts[rows][:, self.of_negatives] * right
            total = first.sum(axis=1) * second.sum(axis=1)
            with np.errstate(invalid="ignore", divide="ignore"):
                result[rows] = ((first @ above) * second).sum(axis=1) / total
        return result


def _above(positive: Floats, negative: Floats) -> Floats:
    difference = positive[:, None] - negative[None, :]
    result: Floats = (np.sign(difference) + 1.0) / 2.0
    return result


def _left_out(codes: NDArray[np.intp], sums: Floats, weights: Floats, point: Floats) -> Floats:
    """The estimate without each cluster of one class, scaled by (n - 1) / n about the estimate."""
    _, codes = np.unique(codes, return_inverse=True)
    of_cluster, totals = np.bincount(codes, weights), np.bincount(codes, weights * sums)
    if len(of_cluster) < 2:
        return np.empty(0)
    values = (totals.sum() - totals) / (weights.sum() - of_cluster)
    n = len(of_cluster)
    centred: Floats = point + (n - 1) / n * (values - values.mean())
    return centred
