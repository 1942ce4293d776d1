from __future__ import annotations

import math

import numpy as np
import pytest

from mmie.statistics.bootstrap import Resampled, draw
from mmie.statistics.transfer import recovery, relative, transfer

IDS = [f"{i:03d}" for i in range(60)]
RESAMPLING = draw([name[:2] for name in IDS], IDS, 1500, names=["t"])


def score(rate: float, seed: int = 0) -> Resampled:
    hits = np.random.default_rng(seed).permutation(60) < round(60 * rate)
    return RESAMPLING.means(hits.astype(float)[:, None, None])


BASE, ORACLE = score(0.9), score(0.1, seed=1)


def test_the_base_is_zero_and_the_oracle_is_one() -> None:
    none = transfer(BASE, BASE, ORACLE, alpha=0.05)
    full = transfer(ORACLE, BASE, ORACLE, alpha=0.05)
    assert (none.estimate, none.interval.low, none.interval.high) == (0, 0, 0)
    assert (full.estimate, full.interval.low, full.interval.high) == (1, 1, 1)


def test_half_way_is_a_half() -> None:
    found = transfer(score(0.5, seed=2), BASE, ORACLE, alpha=0.05)
    assert found.estimate == pytest.approx(0.5)
    assert found.interval.low < 0.5 < found.interval.high
    assert found.interval.method == "bca"


def test_more_leak_than_the_base_is_negative_and_less_than_the_oracle_above_one() -> None:
    assert transfer(score(1.0), BASE, ORACLE, alpha=0.05).estimate < 0
    assert transfer(score(0.0), BASE, ORACLE, alpha=0.05).estimate > 1


def test_a_base_that_knows_no_more_than_the_oracle_has_nothing_to_forget() -> None:
    found = transfer(score(0.2, seed=3), ORACLE, ORACLE, alpha=0.05)
    assert math.isnan(found.estimate) and math.isnan(found.interval.low)
    assert "nothing to forget" in found.reason


def test_a_denominator_whose_interval_reaches_zero_is_not_used() -> None:
    found = transfer(score(0.1), score(0.12, seed=5), ORACLE, alpha=0.05)
    assert math.isnan(found.estimate) and "nothing to forget" in found.reason


@pytest.mark.regression("STA-17")
@pytest.mark.parametrize("level", [0.0, 1e-9])
def test_a_base_of_zero_and_one_of_a_billionth_are_alike(level: float) -> None:
    tiny = RESAMPLING.means(np.full((60, 1, 1), level))
    ratio = relative(score(0.1), tiny, alpha=0.05)
    assert math.isnan(ratio.estimate) and "no base score" in ratio.reason
    assert math.isnan(transfer(score(0.1), tiny, None, alpha=0.05).estimate)


def test_without_an_oracle_transfer_is_one_minus_the_ratio_to_the_base() -> None:
    arm = score(0.3, seed=7)
    ratio = relative(arm, BASE, alpha=0.05).estimate
    assert ratio == pytest.approx(arm.point[0] / BASE.point[0])
    assert transfer(arm, BASE, None, alpha=0.05).estimate == pytest.approx(1 - ratio)


def test_recovery_is_the_share_of_the_lost_score_that_returns() -> None:
    arm, attacked = score(0.1, seed=1), score(0.5, seed=2)
    assert recovery(attacked, arm, BASE, alpha=0.05).estimate == pytest.approx(0.5)
    assert math.isnan(recovery(attacked, BASE, BASE, alpha=0.05).estimate)
