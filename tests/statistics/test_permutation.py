from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from mmie.statistics.permutation import flips_for, least_p, sign_flip


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([1, 1, 1, 1, 1, -1], 14 / 64),
        ([0.1] * 6, 0.03125),
        ([0, 0, 0, 0], 1.0),
        ([0.7], 1.0),
        ([1, 1], 0.5),
        ([1, 1, 1], 0.25),
        ([2.0] * 10, 2 / 1024),
    ],
)
def test_closed_forms(differences: list[float], expected: float) -> None:
    assert sign_flip(np.array(differences, dtype=float), names=["t"]) == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8))
def test_exact_p_equals_the_count_over_all_assignments(differences: list[int]) -> None:
    observed = abs(sum(differences))
    sums = [
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    expected = sum(value >= observed for value in sums) / len(sums)
    assert sign_flip(np.array(differences, dtype=float) / 7, names=["t"]) == pytest.approx(expected)


def test_rounding_does_not_split_ties() -> None:
    assert sign_flip(np.array([0.1, 0.2, 0.3]) * 3.3, names=["t"]) == 0.25


def test_one_sided_p_of_equal_differences_is_one_in_all_assignments() -> None:
    assert sign_flip(np.ones(5), names=["t"], side="greater") == pytest.approx(1 / 32)
    assert sign_flip(-np.ones(5), names=["t"], side="greater") == 1.0


def test_random_flips_include_the_observed_assignment() -> None:
    assert sign_flip(np.ones(40), names=["t"]) == pytest.approx(1 / 10_000)
    assert sign_flip(np.ones(40), names=["t"], n_flips=10) == pytest.approx(1 / 10_000)


def test_equal_names_give_equal_p() -> None:
    values = np.random.default_rng(0).normal(size=30)
    assert sign_flip(values, names=["a"]) == sign_flip(values, names=["a"])


@pytest.mark.regression("STA-01")
def test_under_the_null_p_is_uniform() -> None:
    rng = np.random.default_rng(0)
    p = [sign_flip(rng.normal(size=12), names=["t"]) for _ in range(300)]
    assert kstest(p, "uniform").pvalue > 0.01


@pytest.mark.regression("STA-01")
@pytest.mark.parametrize("m", [9, 30])
def test_the_scale_of_the_scores_does_not_change_p(m: int) -> None:
    values = np.random.default_rng(1).normal(0.3, 1, size=m)
    assert sign_flip(values, names=["t"]) == sign_flip(values * 1000, names=["t"])


def test_a_missing_cluster_gives_no_p() -> None:
    assert np.isnan(sign_flip(np.array([1.0, np.nan]), names=["t"]))
    assert np.isnan(sign_flip(np.array([]), names=["t"]))


def test_smallest_p_and_enough_flips() -> None:
    assert [least_p(m) for m in (2, 3, 5, 6, 10)] == pytest.approx([0.5, 0.25, 0.0625, 0.03125, 0.001953125])
    assert flips_for(20) == 9999
    assert 1 / (1 + flips_for(5000)) < 0.05 / 5000
