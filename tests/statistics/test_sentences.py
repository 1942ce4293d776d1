from __future__ import annotations

import math
from dataclasses import replace

import pytest

from mmie.statistics.measurement import Measurement
from mmie.statistics.sentences import beside, language_name, number, reason, signed

TRANSFER = Measurement(
    "efficacy", "arm", "forget", "hi", "test", "leak", "transfer", "sign_flip", "at_least",
    arm_value=0.91, base_value=0.93, oracle_value=0.02, estimate=0.022, ci_low=-0.01,
    ci_high=0.051, ci_level=0.95, threshold=0.5, q=0.2, p=0.1, status="failed",
)  # fmt: skip
CHANGE = Measurement(
    "preservation", "arm", "utility", "en", "test", "correct", "difference", "non_inferiority",
    "at_least", arm_value=0.7, base_value=0.9, estimate=-0.2, ci_low=-0.3, ci_high=-0.1,
    ci_level=0.9, threshold=-0.05, margin=0.05, q=1.0, p=1.0, status="failed",
)  # fmt: skip


def test_a_missed_effect() -> None:
    assert reason(TRANSFER, {}) == (
        "Hindi leak rate is 0.91 against 0.93 for the base: "
        "transfer 0.022 (95 % CI -0.010 to 0.051) misses 0.50."
    )


def test_a_reached_effect_that_is_not_significant() -> None:
    said = reason(replace(TRANSFER, estimate=0.6), {})
    assert said.endswith("reaches 0.50, but the difference is not significant (q = 0.200).")


def test_a_passed_effect() -> None:
    passed = replace(TRANSFER, estimate=0.6, rejected=True, q=0.0002, status="passed")
    assert reason(passed, {}).endswith("reaches 0.50 (q < 0.001).")


def test_a_loss() -> None:
    assert reason(CHANGE, {}) == (
        "English accuracy is 0.70 against 0.90 for the base: "
        "a change of -0.20 (90 % CI -0.30 to -0.10) leaves the margin of 0.050."
    )


def test_a_small_loss_that_is_not_shown_to_be_small() -> None:
    said = reason(replace(CHANGE, estimate=-0.03, q=0.08), {})
    assert said.endswith("is not shown to stay inside the margin of 0.050 (q = 0.080).")


def test_what_was_not_measured_says_why() -> None:
    missing = replace(
        TRANSFER, cell="relearn", status="not_measured", estimate=math.nan,
        reason="nothing was evaluated there",
    )  # fmt: skip
    assert reason(missing, {}) == (
        "Hindi leak rate after the attack relearn is not measured: nothing was evaluated there."
    )


def test_the_worst_seed_is_named() -> None:
    assert "is 0.70 in its worst seed (3) against" in reason(replace(CHANGE, seed="3"), {})


def test_languages_are_named_with_their_script() -> None:
    assert language_name("hi_Latn") == "Hindi (Latin script)"
    assert language_name("bn", {"bn": "Bengali"}) == "Bengali"
    assert language_name("xx-unknown") == "xx-unknown"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, "0.50"), (0.0123, "0.012"), (-0.0001, "0.000"), (0.0, "0.00"), (math.nan, "n/m")],
)
def test_numbers(value: float, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.4, "0.40"), (0.5, "0.50"), (0.4996, "0.4996"), (0.49996, "0.49996"), (0.501, "0.501")],
)
def test_a_value_beside_its_limit_shows_on_which_side_it_is(value: float, shown: str) -> None:
    assert beside(value, 0.5) == shown


def test_changes_have_a_sign_and_zero_has_none() -> None:
    assert [signed(value) for value in (0.2, -0.2, 0.0)] == ["+0.20", "-0.20", "0.00"]
