from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from mmie.errors import InputError
from mmie.statistics.bootstrap import Resampled, draw
from mmie.statistics.intervals import acceleration, bca_interval, bca_intervals, t_interval


def resampled(values: np.ndarray, n_resamples: int = 4000) -> Resampled:
    """Items without clusters."""
    ids = [f"{i:04d}" for i in range(len(values))]
    return draw(ids, ids, n_resamples, names=["t"]).means(values[:, None, None])


def leave_one_out(values: list[float]) -> np.ndarray:
    total = sum(values)
    return np.array([(total - value) / (len(values) - 1) for value in values])


def test_acceleration_of_the_mean() -> None:
    assert acceleration(leave_one_out([*range(1, 10), 20])) == pytest.approx(0.0846, abs=5e-5)


@pytest.mark.regression("STA-08")
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.32])
def test_bca_agrees_with_scipy_on_the_same_resamples(alpha: float) -> None:
    values = np.random.default_rng(0).exponential(size=40)
    ours = resampled(values)
    interval = bca_interval(ours, alpha)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=0, confidence_level=1 - alpha, method="BCa",
        bootstrap_result=SimpleNamespace(bootstrap_distribution=ours.draws[:, 0]),
    ).confidence_interval  # fmt: skip
    assert interval.method == "bca"
    assert (interval.low, interval.high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


@pytest.mark.regression("STA-08")
def test_bca_is_not_the_percentile_interval_on_skewed_data() -> None:
    ours = resampled(np.random.default_rng(0).exponential(size=25) ** 2)
    interval = bca_interval(ours, 0.05)
    low, high = np.quantile(ours.draws[:, 0], [0.025, 0.975])
    assert interval.low > low + 0.01 and interval.high > high + 0.01


def test_a_constant_sample_gives_a_degenerate_interval() -> None:
    interval = bca_interval(resampled(np.full(12, 0.1)), 0.05)
    assert (interval.low, interval.high, interval.method) == (0.1, 0.1, "degenerate")


def test_one_cluster_gives_no_interval_but_keeps_the_estimate() -> None:
    result = draw(["a"] * 5, list("12345"), 2000, names=["t"]).means(np.ones((5, 1, 1)))
    interval = bca_interval(result, 0.05)
    assert np.isnan(interval.low) and np.isnan(interval.high) and interval.method == "none"
    assert "2 clusters" in interval.reason and result.point[0] == 1.0


@pytest.mark.regression("STA-07")
@pytest.mark.parametrize("alpha", [-0.1, 0.0, 1.0, 1.5, 2.0])
def test_a_level_outside_the_open_interval_is_refused(alpha: float) -> None:
    with pytest.raises(InputError, match="alpha"):
        bca_interval(resampled(np.arange(10.0), 1000), alpha)


@pytest.mark.regression("STA-07")
def test_too_few_resamples_give_no_interval_and_say_so() -> None:
    interval = bca_interval(resampled(np.arange(10.0), 100), 0.05)
    assert np.isnan(interval.low) and "100 resamples" in interval.reason


@pytest.mark.regression("STA-07")
def test_an_extreme_level_stays_inside_the_resamples() -> None:
    ours = resampled(np.random.default_rng(0).normal(size=30), 2000)
    interval = bca_interval(ours, 1e-6)
    assert ours.draws.min() <= interval.low <= interval.high <= ours.draws.max()


@example([0.0, 1.2582078527646115e-117], 0.5)
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-5, 5, allow_nan=False), min_size=2, max_size=12),
    st.floats(0.001, 0.9),
)
@pytest.mark.regression("STA-07")
def test_low_is_never_above_high(values: list[float], alpha: float) -> None:
    ours = resampled(np.array(values), 1000)
    interval = bca_interval(ours, alpha)
    assert interval.low <= interval.high


def test_an_estimate_outside_its_resamples_gets_a_named_percentile_interval() -> None:
    draws = np.linspace(0, 1, 1000)[:, None]
    interval = bca_interval(Resampled(np.array([2.0]), draws, np.array([[1.0], [3.0]])), 0.1)
    assert interval.method == "percentile" and interval.reason
    assert (interval.low, interval.high) == pytest.approx((0.05, 0.95))


def test_equal_leave_one_out_values_leave_only_the_bias_correction() -> None:
    draws = np.random.default_rng(0).normal(size=(2000, 1))
    interval = bca_interval(Resampled(np.array([0.2]), draws, np.full((5, 1), 0.2)), 0.05)
    assert interval.method == "bias_corrected"


def test_undefined_resamples_below_five_percent_are_left_out() -> None:
    draws = np.random.default_rng(0).normal(size=(2000, 2))
    draws[:99, 0] = np.nan
    draws[:101, 1] = np.nan
    both = bca_intervals(Resampled(np.zeros(2), draws, np.array([[0.1, 0.1], [-0.2, -0.2]])), 0.05)
    assert np.isfinite(both.low[0]) and np.isnan(both.low[1])
    assert "1899 of 2000" in both.reason[1]


def test_columns_do_not_disturb_each_other() -> None:
    rng = np.random.default_rng(0)
    draws, jackknife = rng.normal(size=(2000, 3)), rng.normal(size=(9, 3))
    together = bca_intervals(Resampled(np.zeros(3), draws, jackknife), 0.05)
    for column in range(3):
        alone = bca_interval(Resampled(np.zeros(3), draws, jackknife).column(column), 0.05)
        assert (alone.low, alone.high) == (together.low[column], together.high[column])


@pytest.mark.regression("STA-11")
def test_three_values_take_the_t_quantile_4_303() -> None:
    low, high = t_interval(np.array([1.0, 2.0, 3.0]), 0.05)
    assert (high - low) / 2 == pytest.approx(4.3027 / np.sqrt(3), abs=1e-4)
    low, high = t_interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), 0.05)
    assert (high - low) / 2 == pytest.approx(2.7764 * np.sqrt(2.5) / np.sqrt(5), abs=1e-4)


def test_one_value_has_no_t_interval() -> None:
    assert np.isnan(t_interval(np.array([1.0]), 0.05)).all()
