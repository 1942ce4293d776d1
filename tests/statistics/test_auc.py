from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmie.statistics.auc import TwoClasses
from mmie.statistics.bootstrap import draw
from mmie.statistics.intervals import bca_interval


def classes(left: list[str], right: list[str], resamples: int = 1000) -> TwoClasses:
    drawn = [
        draw(clusters, [f"{name}{i:03d}" for i in range(len(clusters))], resamples, names=[name])
        for name, clusters in (("member", left), ("other", right))
    ]
    return TwoClasses(*drawn, np.ones(len(left), dtype=bool), np.ones(len(right), dtype=bool))


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_pairs_in_order_count_one_and_ties_a_half() -> None:
    # pairs (2,1) (2,2) (3,1) (3,2): 1 + 0.5 + 1 + 1 of 4
    found = classes(["a", "b"], ["c", "d"]).auc(column(2.0, 3.0), column(1.0, 2.0))
    assert found.point[0] == pytest.approx(3.5 / 4)


def test_clusters_weigh_equally_in_both_classes() -> None:
    # cluster a holds two items below, cluster b one above: half of the weight each
    found = classes(["a", "a", "b"], ["c"]).auc(column(0.0, 0.0, 2.0), column(1.0))
    assert found.point[0] == pytest.approx(0.5)


def test_seeds_are_averaged() -> None:
    members = np.array([[2.0, 0.0], [2.0, 0.0]])
    found = classes(["a", "b"], ["c", "d"]).auc(members, np.ones((2, 2)))
    assert found.point[0] == pytest.approx(0.5)


def test_the_two_classes_are_drawn_apart() -> None:
    names = [f"{i:03d}" for i in range(40)]
    drawn = classes(names, names)
    assert not np.array_equal(drawn.positives.counts, drawn.negatives.counts)


def test_a_class_without_items_has_no_area() -> None:
    empty = classes(["a", "b"], ["c", "d"])
    empty = TwoClasses(empty.positives, empty.negatives, np.zeros(2, dtype=bool), empty.of_negatives)
    assert np.isnan(empty.auc(column(1.0, 2.0), column(0.0, 0.0)).point[0])


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_its_interval_agrees_with_scipy_on_the_same_resamples(alpha: float) -> None:
    rng = np.random.default_rng(1)
    left, right = rng.normal(0.6, 1, size=30), rng.normal(size=24)
    ours = classes([f"{i:02d}" for i in range(30)], [f"{i:02d}" for i in range(24)], 4000)
    found = ours.auc(left[:, None], right[:, None])

    def area(x: np.ndarray, y: np.ndarray) -> float:
        # SciPy takes resamples that differ by rounding for different ones; an area has many ties.
        return round(float(stats.mannwhitneyu(x, y).statistic / (len(x) * len(y))), 12)

    theirs = stats.bootstrap(
        (left, right), area, n_resamples=0, confidence_level=1 - alpha, method="BCa", vectorized=False,
        bootstrap_result=SimpleNamespace(bootstrap_distribution=np.round(found.draws[:, 0], 12)),
    ).confidence_interval  # fmt: skip
    interval = bca_interval(found, alpha)
    assert found.point[0] == pytest.approx(area(left, right))
    assert (interval.low, interval.high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


@given(
    st.lists(st.integers(-3, 3), min_size=2, max_size=8), st.lists(st.integers(-3, 3), min_size=2, max_size=8)
)
@settings(max_examples=40, deadline=None)
def test_swapping_the_classes_mirrors_the_area_and_scaling_scores_leaves_it(
    left: list[int], right: list[int]
) -> None:
    names = [[f"{i}" for i in range(len(values))] for values in (left, right)]
    first = classes(*names, resamples=5).auc(column(*left), column(*right)).point[0]
    second = classes(*names[::-1], resamples=5).auc(column(*right), column(*left)).point[0]
    scaled = classes(*names, resamples=5).auc(7.0 * column(*left) + 1, 7.0 * column(*right) + 1).point[0]
    assert first + second == pytest.approx(1.0) and scaled == pytest.approx(first)
    assert 0.0 <= first <= 1.0
