from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from mmie.errors import InputError
from mmie.training.plan import epoch_windows, learning_rate, plan_steps, warmup_steps
from mmie.training.settings import TrainingSettings


@pytest.mark.regression("TRN-20")
@pytest.mark.parametrize(("tail", "steps"), [("flush", 9), ("carry", 8), ("drop", 6)])
def test_what_is_left_of_an_epoch_is_flushed_carried_or_dropped(tail: str, steps: int) -> None:
    windows = epoch_windows(10, 4, 3, tail)
    assert len(windows) == steps
    used = [place for window in windows for place in window]
    expected = [place for place in range(30) if tail != "drop" or place % 10 < 8]
    assert used == expected


@pytest.mark.regression("TRN-20")
@pytest.mark.parametrize(("tail", "steps"), [("flush", 9), ("carry", 8), ("drop", 6)])
def test_the_schedule_has_as_many_steps_as_the_optimiser(tail: str, steps: int) -> None:
    settings = TrainingSettings(steps=None, epochs=3, tail=tail, forget_batch=4, retain_batch=2)
    plan = plan_steps(settings, 10)
    assert len(plan) == steps
    assert [len(step.retain) for step in plan] == [2] * steps
    rates = [learning_rate(step, len(plan), 1.0, 0.0) for step in range(steps)]
    assert rates == pytest.approx([(steps - step) / steps for step in range(steps)])


@pytest.mark.regression("TRN-22")
def test_steps_and_warm_up_of_a_long_run_are_exact() -> None:
    for tail in ("flush", "carry", "drop"):
        assert len(epoch_windows(3576, 8, 3, tail)) == 1341
    assert warmup_steps(1341, 0.03) == 40
    rates = [learning_rate(step, 1341, 2e-4, 0.03) for step in range(1341)]
    rise = [2e-4 * number / 41 for number in range(1, 41)]
    fall = [2e-4 * number / 1301 for number in range(1301, 0, -1)]
    assert rates == pytest.approx(rise + fall, rel=1e-12)


def test_the_rate_rises_falls_and_is_never_zero() -> None:
    rates = [learning_rate(step, 10, 1.0, 0.2) for step in range(10)]
    assert rates == pytest.approx([1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    assert warmup_steps(100, 0.29) == 29
    assert min(learning_rate(step, 5, 1.0, 1.0) for step in range(5)) > 0


@given(rows=st.integers(1, 40), size=st.integers(1, 9), epochs=st.integers(1, 4))
@bounded(max_examples=50, deadline=None)
def test_no_row_of_an_epoch_is_used_twice_or_lost(rows: int, size: int, epochs: int) -> None:
    for tail in ("flush", "carry"):
        used = [place for window in epoch_windows(rows, size, epochs, tail) for place in window]
        assert used == list(range(rows * epochs))
    assert all(len(window) == size for window in epoch_windows(rows, size, epochs, "drop"))


def test_a_plan_of_less_than_two_steps_is_refused() -> None:
    settings = TrainingSettings(steps=None, epochs=1, forget_batch=64)
    with pytest.raises(InputError, match="1 epochs of 10 forget rows give 1 optimiser steps"):
        plan_steps(settings, 10)
