from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmie.attacks.recovery import recovery_area
from mmie.errors import InputError


@pytest.mark.regression("EVA-19")
def test_the_worked_curve_has_its_area() -> None:
    # r = 0, .25, .5, .625 at log2(1 + s) = 0, 3.459432, 4.392317, 5.357552:
    # (.125 * 3.459432 + .375 * .932885 + .5625 * .965235) / 5.357552
    assert recovery_area((0, 10, 20, 40), (0.1, 0.3, 0.5, 0.6), 0.9) == pytest.approx(0.247353, abs=1e-6)


@given(st.floats(0, 0.9), st.sampled_from([(0, 1), (0, 5, 50), (0, 1, 3, 200)]))
def test_a_flat_curve_has_no_area(level: float, steps: tuple[int, ...]) -> None:
    assert recovery_area(steps, [level] * len(steps), 0.95) == 0


def test_a_base_that_knows_no_more_leaves_nothing_to_recover() -> None:
    assert math.isnan(recovery_area((0, 1), (0.4, 0.9), 0.4))


@pytest.mark.parametrize("steps", [(1, 2), (0, 2, 1), (0,), (0, 1, 2)])
def test_steps_that_do_not_fit_are_refused(steps: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="must rise from 0"):
        recovery_area(steps, (0.1, 0.2)[: max(1, len(steps) - 1)] if len(steps) != 2 else (0.1, 0.2), 0.9)
