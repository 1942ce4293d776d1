from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.errors import InputError
from mmie.statistics.bootstrap import combine, draw, draw_seeds
from mmie.statistics.intervals import bca_interval

CLUSTERS = ["a", "a", "a", "b", "c", "c"]
ITEMS = ["1", "2", "3", "4", "5", "6"]


def column(values: list[float] | np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=float)[:, None, None]


def test_clusters_weigh_equally_by_default() -> None:
    resampling = draw(CLUSTERS, ITEMS, 10, names=["t"])
    # a: 1, b: 4, c: 7 -> mean 4
    assert resampling.means(column([0, 1, 2, 4, 6, 8])).point[0] == pytest.approx(4.0)


def test_items_weigh_equally_on_request() -> None:
    resampling = draw(CLUSTERS, ITEMS, 10, names=["t"], weight="item")
    assert resampling.means(column([0, 1, 2, 4, 6, 8])).point[0] == pytest.approx(21 / 6)


def test_leaving_out_a_cluster_leaves_the_mean_of_the_others() -> None:
    resampling = draw(CLUSTERS, ITEMS, 10, names=["t"])
    jackknife = resampling.means(column([0, 1, 2, 4, 6, 8])).jackknife[:, 0]
    assert jackknife == pytest.approx([(4 + 7) / 2, (1 + 7) / 2, (1 + 4) / 2])


def test_a_resample_takes_as_many_items_as_its_clusters_hold() -> None:
    resampling = draw(CLUSTERS, ITEMS, 500, names=["t"])
    per_cluster = np.stack(
        [resampling.counts[:, resampling.clusters == code].sum(axis=1) for code in range(3)], axis=1
    )
    times = per_cluster / np.array([3, 1, 2])
    assert np.array_equal(times, np.round(times))
    assert (times.sum(axis=1) == 3).all()


@pytest.mark.regression("STA-10")
def test_one_item_a_cluster_is_the_ordinary_paired_bootstrap() -> None:
    names = [f"{i:02d}" for i in range(30)]
    values = np.random.default_rng(1).normal(size=30)
    resampling = draw(names, names, 400, names=["t"])
    means = resampling.means(column(values)).draws[:, 0]
    by_hand = [np.repeat(values, row).mean() for row in resampling.counts]
    assert (resampling.counts.sum(axis=1) == 30).all()
    assert means == pytest.approx(by_hand, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(6)))
def test_the_order_of_rows_changes_nothing(order: list[int]) -> None:
    values = np.array([0.0, 1, 2, 4, 6, 9])
    plain = draw(CLUSTERS, ITEMS, 50, names=["t"])
    mixed = draw([CLUSTERS[i] for i in order], [ITEMS[i] for i in order], 50, names=["t"])
    assert np.array_equal(plain.counts[:, order], mixed.counts)
    assert mixed.means(column(values[order])).draws == pytest.approx(
        plain.means(column(values)).draws, abs=1e-12
    )


def test_a_missing_item_leaves_the_mean_over_the_rest_of_its_cluster() -> None:
    resampling = draw(CLUSTERS, ITEMS, 200, names=["t"])
    scores = column([np.nan, 1, 3, 4, 6, 8])
    result = resampling.means(scores, valid=np.isfinite(scores[:, 0, 0]))
    assert result.point[0] == pytest.approx((2 + 4 + 7) / 3)
    assert np.isfinite(result.draws).sum() > 190


def test_without_any_score_everything_is_missing() -> None:
    resampling = draw(CLUSTERS, ITEMS, 20, names=["t"])
    result = resampling.means(column([np.nan] * 6), valid=np.zeros(6, dtype=bool))
    assert np.isnan(result.point).all() and np.isnan(result.draws).all()


@pytest.mark.regression("STA-09")
def test_large_nearly_equal_scores_keep_their_digits() -> None:
    values = 1e8 + np.arange(6) * 1e-6
    resampling = draw(ITEMS, ITEMS, 1000, names=["t"])
    result = resampling.means(column(values))
    assert result.draws.dtype == np.float64
    assert result.point[0] == pytest.approx(1e8 + 2.5e-6, rel=1e-16, abs=1e-7)
    shifted = resampling.means(column(values - 1e8))
    assert result.draws - 1e8 == pytest.approx(shifted.draws, abs=2e-8)
    near_one = resampling.means(column(1.0 + np.arange(6) * 1e-13))
    assert near_one.point[0] == pytest.approx(1.0 + 2.5e-13, rel=0, abs=1e-15)


def test_equal_scores_stay_exactly_equal_in_every_resample() -> None:
    result = draw(CLUSTERS, ITEMS, 1000, names=["t"]).means(column([0.1] * 6))
    assert set(result.draws.ravel()) == {0.1}


def test_seeds_are_drawn_with_replacement_and_averaged() -> None:
    shares = draw_seeds(3, 2000, names=["arm"])
    assert shares is not None
    assert shares.sum(axis=1) == pytest.approx(1)
    # C(5, 3) = 10 different multisets of three seeds
    assert len(np.unique(shares, axis=0)) == 10
    scores = np.tile(np.array([0.0, 3.0, 6.0])[None, :, None], (6, 1, 1))
    result = draw(CLUSTERS, ITEMS, 2000, names=["t"]).means(scores, seed_shares=shares)
    assert result.point[0] == pytest.approx(3)
    assert result.draws[:, 0] == pytest.approx(shares @ [0.0, 3.0, 6.0])


def test_a_single_run_has_no_seed_noise() -> None:
    assert draw_seeds(1, 100, names=["arm"]) is None


def test_pairing_removes_what_both_arms_share() -> None:
    rng = np.random.default_rng(3)
    names = [f"{i:03d}" for i in range(100)]
    hard = rng.normal(size=100)
    resampling = draw(names, names, 1000, names=["t"])
    base, arm = resampling.means(column(hard)), resampling.means(column(hard - 0.5))
    assert (arm - base).draws == pytest.approx(-0.5)


def test_a_ratio_is_taken_inside_each_resample() -> None:
    resampling = draw(CLUSTERS, ITEMS, 100, names=["t"])
    top, bottom = (resampling.means(column(v)) for v in ([0, 1, 2, 4, 6, 8], [1, 1, 2, 2, 3, 3]))
    ratio = combine(lambda a, b: a / b, top, bottom)
    assert ratio.draws == pytest.approx(top.draws / bottom.draws)
    assert ratio.point[0] == pytest.approx(4 / ((4 / 3 + 2 + 3) / 3))


def test_a_ratio_without_a_denominator_is_missing_not_infinite() -> None:
    resampling = draw(CLUSTERS, ITEMS, 100, names=["t"])
    zero, one = resampling.means(column([0] * 6)), resampling.means(column([1] * 6))
    assert np.isnan(combine(lambda a, b: a / b, one, zero).draws).all()


@pytest.mark.regression("STA-10")
def test_coverage_on_clustered_seeded_data_is_near_nominal() -> None:
    rng = np.random.default_rng(0)
    m, n, runs, hits = 30, 4, 150, 0
    clusters = [f"{i // n:02d}" for i in range(m * n)]
    items = [f"{i:03d}" for i in range(m * n)]
    resampling = draw(clusters, items, 1000, names=["coverage"])
    for _ in range(runs):
        of_cluster = np.repeat(rng.normal(size=m), n)
        scores = of_cluster + rng.normal(size=m * n)
        interval = bca_interval(resampling.means(column(scores)), 0.05)
        hits += interval.contains(0.0)
    assert 0.90 <= hits / runs <= 1.0


def test_repeated_items_are_refused() -> None:
    with pytest.raises(InputError, match="repeat"):
        draw(["a", "a"], ["1", "1"], 10, names=["t"])


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(InputError, match="0 items"):
        draw([], [], 10, names=["t"])


@pytest.mark.parametrize("weight", ["cluster", "item"])
def test_cluster_values_average_to_the_estimand(weight: str) -> None:
    values = np.array([0.0, 1, 2, 4, 6, 9])
    resampling = draw(CLUSTERS, ITEMS, 10, names=["t"], weight=weight)  # type: ignore[arg-type]
    point = resampling.means(column(values)).point[0]
    assert resampling.cluster_means(values).mean() == pytest.approx(point)
