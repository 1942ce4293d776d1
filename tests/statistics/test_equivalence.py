from __future__ import annotations

import numpy as np
import pytest

from mmie.errors import InputError
from mmie.statistics.equivalence import inside_margin, non_inferiority, tost


@pytest.mark.parametrize(("m", "expected"), [(5, 0.03125), (4, 0.0625)])
def test_no_difference_at_all(m: int, expected: float) -> None:
    assert tost(np.zeros(m), 0.01, names=["t"]) == pytest.approx(expected)
    assert non_inferiority(np.zeros(m), 0.01, "down", names=["t"]) == pytest.approx(expected)


def test_a_loss_beyond_the_margin_is_not_preserved() -> None:
    loss = np.full(10, -0.2)
    assert non_inferiority(loss, 0.05, "down", names=["t"]) == 1.0
    assert tost(loss, 0.05, names=["t"]) == 1.0


def test_a_gain_passes_non_inferiority_but_not_equivalence() -> None:
    gain = np.full(10, 0.2)
    assert non_inferiority(gain, 0.05, "down", names=["t"]) == pytest.approx(1 / 1024)
    assert tost(gain, 0.05, names=["t"]) == 1.0


def test_harm_upwards_is_watched_for_scores_where_more_is_worse() -> None:
    more = np.full(10, 0.2)
    assert non_inferiority(more, 0.05, "up", names=["t"]) == 1.0
    assert non_inferiority(-more, 0.05, "up", names=["t"]) == pytest.approx(1 / 1024)


def test_few_noisy_clusters_are_no_evidence_of_preservation() -> None:
    noisy = np.array([-0.3, 0.3, -0.25, 0.28, 0.01, -0.02])
    assert non_inferiority(noisy, 0.05, "down", names=["t"]) > 0.2


def test_exactly_on_the_margin_is_not_inside() -> None:
    assert non_inferiority(np.full(8, -0.5), 0.5, "down", names=["t"]) == 1.0


@pytest.mark.parametrize("margin", [0.0, -0.1, float("nan")])
def test_a_margin_must_be_positive(margin: float) -> None:
    with pytest.raises(InputError, match="margin"):
        tost(np.zeros(5), margin, names=["t"])


def test_an_interval_is_inside_on_the_harmful_side_only_if_one_is_named() -> None:
    assert inside_margin(-0.01, 0.3, 0.05, "down")
    assert not inside_margin(-0.01, 0.3, 0.05, None)
    assert not inside_margin(-0.01, 0.3, 0.05, "up")
    assert not inside_margin(float("nan"), 0.0, 0.05, "down")
