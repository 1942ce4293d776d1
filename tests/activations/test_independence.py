from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from mmie.activations.independence import IndependenceOptions, independence
from mmie.errors import InputError

OPTIONS = IndependenceOptions(permutations=99, power_draws=20)


def draws(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.regression("ACT-26")
def test_linear_dependence_in_high_dimension_is_seen_and_has_the_smallest_p() -> None:
    """With a fixed width of 1 both kernels are the identity here, and nothing is ever seen."""
    x = draws(60, 500)
    y = x @ draws(500, 40, seed=1)
    found = independence(x, y, OPTIONS)
    assert found.verdict == "dependent"
    assert found.p == 1 / 100
    fixed = np.exp(-(squareform(pdist(x)) ** 2) / 2)
    assert np.allclose(fixed, np.eye(60), atol=1e-12)


@pytest.mark.regression("ACT-26")
def test_dependence_without_correlation_is_seen() -> None:
    x = np.linspace(-2, 2, 200)[:, None]
    y = x**2 + 0.3 * draws(200, 1, seed=1)
    assert abs(np.corrcoef(x[:, 0], y[:, 0])[0, 1]) < 0.05
    assert independence(x, y, OPTIONS).verdict == "dependent"


@pytest.mark.regression("ACT-26")
def test_independent_data_are_called_so_only_where_dependence_would_have_been_seen() -> None:
    many = independence(draws(200, 3), draws(200, 3, seed=1), OPTIONS)
    assert many.p > 0.05
    assert many.verdict == "independent" and many.power is not None and many.power >= 0.8
    few = independence(draws(20, 3), draws(20, 3, seed=1), IndependenceOptions(permutations=99, effect=0.2))
    assert few.p > 0.05
    assert few.verdict == "undecided" and few.power is not None and few.power < 0.8


@pytest.mark.regression("ACT-26")
def test_independent_data_are_rejected_at_the_level_and_no_more() -> None:
    """40 pairs at level 0.05: more than 7 rejections have probability 0.001."""
    quick = IndependenceOptions(permutations=59, power_draws=1)
    verdicts = [
        independence(draws(30, 2, seed=2 * at), draws(30, 2, seed=2 * at + 1), quick).p <= 0.05
        for at in range(40)
    ]
    assert sum(verdicts) <= 7


def test_the_statistic_is_the_textbook_trace() -> None:
    x, y = draws(25, 4), draws(25, 2, seed=1)
    found = independence(x, y, OPTIONS)

    def kernel(values: np.ndarray) -> np.ndarray:
        distances = pdist((values - values.mean(0)) / values.std(0))
        return np.exp(-(squareform(distances) ** 2) / (2 * np.median(distances) ** 2))

    centring = np.eye(25) - 1 / 25
    expected = np.trace(kernel(x) @ centring @ kernel(y) @ centring) / 25**2
    assert found.statistic == pytest.approx(expected, rel=1e-9)


def test_the_same_seed_gives_the_same_answer() -> None:
    x, y = draws(30, 3), draws(30, 3, seed=1)
    assert independence(x, y, OPTIONS) == independence(x, y, OPTIONS)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (draws(10, 2), draws(10, 2), "At least 20"),
        (draws(30, 2), draws(31, 2), "30 rows of x, 31 of y"),
        (np.full((30, 2), np.nan), draws(30, 2), "not finite"),
        (np.ones((30, 2)), draws(30, 2), "most rows are alike"),
    ],
)
def test_what_cannot_be_tested_is_refused(x: np.ndarray, y: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        independence(x, y, OPTIONS)
