from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.activations.similarity import (
    Pair,
    against_chance,
    debiased_cka,
    hsic_gram,
    neuron_correlation,
    permuted_within,
    procrustes,
    retrieval,
    standardised,
)
from mmie.errors import InputError

FORMS = ["gram", "feature"]


def rotation(width: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(width, width)))[0]


@pytest.mark.parametrize("form", FORMS)
def test_debiased_cka_of_four_items_is_minus_one_half(form: str) -> None:
    x = np.array([[1.0], [1], [-1], [-1]])
    y = np.array([[1.0], [-1], [1], [-1]])
    assert debiased_cka(x, y, form) == pytest.approx(-0.5, abs=1e-12)


def test_unbiased_hsic_of_four_items_is_minus_four_thirds() -> None:
    x = np.array([[1.0], [1], [-1], [-1]])
    y = np.array([[1.0], [-1], [1], [-1]])
    grams = []
    for values in (x, y):
        gram = values @ values.T
        np.fill_diagonal(gram, 0)
        grams.append(gram)
    assert hsic_gram(*grams) == pytest.approx(-4 / 3, abs=1e-12)


@pytest.mark.regression("ACT-05", "ACT-06")
def test_similarities_are_one_under_rotation_scale_and_shift() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 6))
    y = 3 * x @ rotation(6, rng) + 5
    for form in FORMS:
        assert debiased_cka(x, x, form) == pytest.approx(1, abs=1e-9)
        assert debiased_cka(x, y, form) == pytest.approx(1, abs=1e-9)
        assert procrustes(x, y, form) == pytest.approx(1, abs=1e-9)


@pytest.mark.regression("ACT-06")
@settings(max_examples=25, deadline=None)
@given(st.integers(5, 20), st.integers(1, 30), st.integers(0, 99))
def test_gram_and_feature_forms_are_one_number(items: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, items, width))
    y = y + x
    assert debiased_cka(x, y, "gram") == pytest.approx(debiased_cka(x, y, "feature"), abs=1e-9)
    assert procrustes(x, y, "gram") == pytest.approx(procrustes(x, y, "feature"), abs=1e-9)


def test_procrustes_of_stretched_columns() -> None:
    x = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) / 2
    assert procrustes(x, x * [1, 2]) == pytest.approx(3 / math.sqrt(10), abs=1e-12)


def test_neuron_correlation_is_signed_and_counts_constant_neurons() -> None:
    x = np.random.default_rng(0).normal(size=(10, 3))
    assert neuron_correlation(x, 2 * x + 1) == (pytest.approx(1), 0)
    assert neuron_correlation(x, -0.5 * x + 1) == (pytest.approx(-1), 0)
    y = x.copy()
    y[:, 1] = 7
    assert neuron_correlation(x, y) == (pytest.approx(1), 1)


def hsic_by_enumeration(x: np.ndarray, y: np.ndarray) -> float:
    """The U-statistic of HSIC by its definition: the kernel h over all ordered quadruples of distinct rows.

    E[k l] + E[k] E[l] - 2 E[E[k] E[l]], each mean over rows of its own. Source: Song et al. 2012.
    """
    k, l = x @ x.T, y @ y.T  # noqa: E741
    kernel = [k[s, t] * (l[s, t] + l[u, v] - 2 * l[s, u]) for s, t, u, v in permutations(range(len(x)), 4)]
    return math.fsum(kernel) / len(kernel)


@pytest.mark.regression("ACT-05")
@pytest.mark.parametrize("items", [4, 6, 7, 8])
def test_debiased_cka_is_the_ratio_of_enumerated_u_statistics(items: int) -> None:
    rng = np.random.default_rng(items)
    # Neither centred nor independent, and of unequal width.
    x = rng.normal(size=(items, 3)) + 1
    y = 0.7 * x @ rng.normal(size=(3, 5)) + rng.normal(size=(items, 5)) - 2
    both, own_x, own_y = (hsic_by_enumeration(*pair) for pair in ((x, y), (x, x), (y, y)))
    grams = [values @ values.T for values in (x, y)]
    for gram in grams:
        np.fill_diagonal(gram, 0)
    assert hsic_gram(*grams) == pytest.approx(both, rel=1e-9)
    for form in FORMS:
        assert debiased_cka(x, y, form) == pytest.approx(both / math.sqrt(own_x * own_y), rel=1e-9)


def biased_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Kornblith et al. 2019, linear kernel: what debiasing is measured against."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    own = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(x.T @ y) ** 2 / own)


@pytest.mark.regression("ACT-05", "ACT-07")
def test_independent_spaces_score_zero_where_biased_cka_scores_089() -> None:
    debiased, biased, correlation = [], [], []
    for draw in range(10):
        x, y = np.random.default_rng(draw).normal(size=(2, 64, 512))
        debiased.append(debiased_cka(x, y))
        biased.append(biased_cka(x, y))
        correlation.append(neuron_correlation(x, y)[0])
    assert abs(np.mean(debiased)) < 0.03
    assert np.mean(biased) == pytest.approx(0.89, abs=0.01)
    assert abs(np.mean(correlation)) < 0.01


def test_half_samples_of_independent_spaces_stay_at_zero_and_duplicates_are_refused() -> None:
    values = []
    for draw in range(20):
        rng = np.random.default_rng(draw)
        x, y = rng.normal(size=(2, 64, 512))
        values.append(Pair(x, y).subset(rng.permutation(64)[:32]).compare()["cka"])
    assert abs(np.mean(values)) < 0.03
    with pytest.raises(InputError, match="twice"):
        Pair(x, y).subset(rng.integers(0, 64, 64))


@pytest.mark.parametrize("items", [8, 40])
def test_a_pair_gives_the_same_numbers_as_the_functions(items: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(items, 16))
    y = x @ rng.normal(size=(16, 16)) + rng.normal(size=(items, 16))
    pairing = rng.permutation(items)
    found = Pair(x, y).compare(pairing, exact=True)
    (x, _), (y, _) = standardised(x), standardised(y)
    assert found["cka"] == pytest.approx(debiased_cka(x, y[pairing]), abs=1e-9)
    assert found["procrustes"] == pytest.approx(procrustes(x, y[pairing]), abs=1e-9)
    assert found["anc"] == pytest.approx(neuron_correlation(x, y[pairing])[0], abs=1e-9)
    quick = Pair(x, y).compare(pairing)
    assert quick["procrustes"] == pytest.approx(found["procrustes"], abs=1e-6)


@pytest.mark.regression("ACT-04", "ACT-07")
def test_shuffled_rows_fall_to_the_null() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 20))
    y = x + 0.3 * rng.normal(size=x.shape)
    strata = np.zeros(150, dtype=np.int64)
    pairings = [permuted_within(strata, rng) for _ in range(100)]
    paired = against_chance(Pair(x, y), pairings, 50)
    unpaired = against_chance(Pair(x, y[rng.permutation(150)]), pairings, 50)
    for name in ("cka", "procrustes", "anc"):
        assert paired[name].excess > 0.6
        assert paired[name].p <= 1 / 51
        assert abs(unpaired[name].excess) < 0.1


@pytest.mark.regression("ACT-04")
def test_unpaired_rows_are_refused() -> None:
    with pytest.raises(InputError, match="same items"):
        debiased_cka(np.zeros((5, 2)), np.zeros((6, 2)))
    with pytest.raises(InputError, match="at least 4"):
        debiased_cka(np.zeros((3, 2)), np.zeros((3, 2)))


def test_a_shared_massive_dimension_does_not_survive_standardising() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 200, 50))
    massive = 50 * rng.normal(size=200)
    x[:, 0] += massive
    y[:, 0] += massive
    assert debiased_cka(x, y) > 0.99
    assert abs(Pair(x, y).compare()["cka"]) < 0.1


def test_a_large_mean_does_not_decide_the_value() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 30))
    y = x + rng.normal(size=x.shape)
    for form in FORMS:
        assert debiased_cka(x + 100, y + 100, form) == pytest.approx(debiased_cka(x, y, form), abs=1e-9)


def test_retrieval_finds_translations() -> None:
    x = np.random.default_rng(0).normal(size=(30, 8))
    assert retrieval(x, 2 * x + 3) == 1
    assert retrieval(x, np.roll(x, 1, axis=0)) == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 99))
def test_permutations_stay_within_strata(strata: list[int], seed: int) -> None:
    labels = np.array(strata, dtype=np.int64)
    pairing = permuted_within(labels, np.random.default_rng(seed))
    assert sorted(pairing.tolist()) == list(range(len(strata)))
    assert (labels[pairing] == labels).all()
