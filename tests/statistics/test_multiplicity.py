from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from mmie.errors import InputError
from mmie.statistics.multiplicity import benjamini_hochberg, benjamini_yekutieli
from mmie.statistics.permutation import sign_flip

NAN = math.nan
P_VALUES = st.lists(st.one_of(st.floats(0, 1), st.just(NAN)), max_size=25)


@pytest.mark.regression("STA-14")
def test_closed_form() -> None:
    q = benjamini_hochberg([0.01, 0.04, 0.03, 0.20])
    assert q == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.20])
    assert (q <= 0.05).sum() == 1


@pytest.mark.regression("STA-05")
def test_a_nan_keeps_its_place_and_disturbs_nothing() -> None:
    q = benjamini_hochberg([0.01, NAN, 0.04, 0.03, 0.20])
    assert q == pytest.approx([0.04, NAN, 0.16 / 3, 0.16 / 3, 0.20], nan_ok=True)


@pytest.mark.regression("STA-05")
def test_nothing_but_nan_rejects_nothing() -> None:
    assert np.isnan(benjamini_hochberg([NAN, NAN])).all()
    assert benjamini_hochberg([]).shape == (0,)


@settings(max_examples=50, deadline=None)
@given(P_VALUES)
def test_both_corrections_agree_with_scipy_on_the_finite_values(p: list[float]) -> None:
    finite = np.array([value for value in p if math.isfinite(value)])
    for ours, method in ((benjamini_hochberg, "bh"), (benjamini_yekutieli, "by")):
        q = ours(p)
        if finite.size:
            expected = false_discovery_control(finite, method=method)
            assert q[np.isfinite(p)] == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(P_VALUES, st.randoms())
def test_order_does_not_matter(p: list[float], random) -> None:  # type: ignore[no-untyped-def]
    order = list(range(len(p)))
    random.shuffle(order)
    shuffled = benjamini_hochberg([p[i] for i in order])
    assert shuffled == pytest.approx(benjamini_hochberg(p)[order], nan_ok=True)


@pytest.mark.regression("STA-01")
@pytest.mark.parametrize("wrong", [-0.1, 1.4, math.inf])
def test_an_effect_is_not_taken_for_a_p_value(wrong: float) -> None:
    with pytest.raises(InputError, match="never effects"):
        benjamini_hochberg([0.01, wrong])


def test_false_discovery_rate_with_shared_clusters_stays_at_its_level() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(150):
        # Ten correlated tests on the same clusters; the first three have an effect.
        shared = rng.normal(size=(1, 10))
        data = 0.5 * shared + rng.normal(size=(10, 10))
        data[:3] += 1.2
        p = [sign_flip(row, names=["t"]) for row in data]
        rejected = benjamini_hochberg(p) <= 0.05
        shares.append(rejected[3:].sum() / max(1, rejected.sum()))
    assert np.mean(shares) <= 0.05 + 2 * np.std(shares) / np.sqrt(len(shares))
