from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import mmie.statistics
from mmie.statistics.effects import cliffs_delta, matched_odds_ratio, paired_dz, sample_sd


@pytest.mark.regression("STA-12")
def test_the_spread_of_a_sample_divides_by_n_minus_one() -> None:
    assert sample_sd([1.0, 2.0, 3.0, 4.0]) == pytest.approx(math.sqrt(5 / 3))
    assert math.isnan(sample_sd([1.0]))


@pytest.mark.regression("STA-12")
def test_there_is_one_implementation_of_it() -> None:
    folder = Path(next(iter(mmie.statistics.__path__)))
    users = [path.name for path in folder.glob("*.py") if "np.std(" in path.read_text()]
    assert users == ["effects.py"]
    assert not [path for path in folder.glob("*.py") if ".std(" in
                path.read_text().replace("np.std(", "")]  # fmt: skip


def test_dz_with_hedges_factor() -> None:
    # mean 2, sd 1, factor 1 - 3/(4*2 - 1)
    assert paired_dz(np.array([1.0, 2.0, 3.0])) == pytest.approx(2 * (1 - 3 / 7))


def test_equal_differences_have_no_standardised_effect() -> None:
    assert math.isnan(paired_dz(np.full(5, 0.3)))
    assert math.isnan(paired_dz(np.zeros(5)))


def test_matched_odds() -> None:
    assert matched_odds_ratio(6, 3) == 2
    assert matched_odds_ratio(3, 0) == 7


def test_cliffs_delta() -> None:
    assert cliffs_delta([2, 3], [0, 1]) == 1
    assert cliffs_delta([1, 2], [1, 2]) == 0
    assert cliffs_delta([0, 0, 1], [1]) == pytest.approx(-2 / 3)
