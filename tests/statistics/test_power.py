from __future__ import annotations

import numpy as np
import pytest

from mmie.statistics.power import intra_cluster_correlation, power_statement


@pytest.mark.parametrize(
    ("clusters", "items", "effective", "detectable", "least"),
    [
        (2, 20, 6.0, 1.15, 0.5),
        (10, 20, 29.9, 0.51, 0.002),
        (20, 20, 59.7, 0.36, 2e-6),
        (40, 10, 108, 0.27, 2e-12),
    ],
)
def test_published_designs(
    clusters: int, items: int, effective: float, detectable: float, least: float
) -> None:
    found = power_statement(clusters, items, declared=1)
    assert found.effective_items == pytest.approx(effective, rel=0.01)
    assert found.detectable == pytest.approx(detectable, abs=0.006)
    assert found.least_p == pytest.approx(least, rel=0.1)


def test_twenty_tests_need_ten_clusters() -> None:
    assert power_statement(9, 5, declared=20).refused
    assert not power_statement(10, 5, declared=20).refused


def test_two_authors_are_refused() -> None:
    assert power_statement(2, 20, declared=1).refused


def test_correlation_of_items_that_only_differ_between_clusters_is_one() -> None:
    clusters = np.repeat(np.arange(4), 3)
    assert intra_cluster_correlation(clusters.astype(float), clusters) == pytest.approx(1)


def test_correlation_recovers_a_planted_value() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(400), 5)
    values = np.sqrt(0.3) * rng.normal(size=400)[clusters] + np.sqrt(0.7) * rng.normal(size=2000)
    assert intra_cluster_correlation(values, clusters) == pytest.approx(0.3, abs=0.05)


def test_correlation_of_single_items_is_unknown() -> None:
    assert np.isnan(intra_cluster_correlation(np.arange(5.0), np.arange(5)))
