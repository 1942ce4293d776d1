import math

import pytest

from mmie.errors import InputError
from mmie.metrics.aggregates import (
    MODEL_UTILITY_PARTS,
    bits_per_byte_delta,
    collapsed,
    harmonic_mean,
    language_score,
    legacy_memorisation,
    memory_score,
    model_utility,
    neighbour_damage,
    privacy_score,
    quantisation_agreement,
    relative_score,
    relearning_agreement,
    robustness_score,
    score_v1,
    utility_score,
)


def test_harmonic_mean_by_hand() -> None:
    assert harmonic_mean([1.0] * 8 + [0.1]) == pytest.approx(0.5)
    assert harmonic_mean([1.0, 0.0]) == 0.0
    assert math.isnan(harmonic_mean([1.0, math.nan]))
    assert math.isnan(harmonic_mean([]))
    with pytest.raises(InputError, match="negative"):
        harmonic_mean([0.5, -0.1])


def test_model_utility_needs_all_nine_parts() -> None:
    parts = dict.fromkeys(MODEL_UTILITY_PARTS, 1.0)
    assert len(parts) == 9
    assert model_utility({**parts, MODEL_UTILITY_PARTS[0]: 0.1}) == pytest.approx(0.5)
    with pytest.raises(InputError, match="all nine"):
        model_utility({key: value for key, value in parts.items() if key != MODEL_UTILITY_PARTS[3]})


def test_arm_that_does_nothing_keeps_all_utility_and_a_gain_is_no_more_than_that() -> None:
    base = {"en": 0.9, "bn": 0.6}
    assert utility_score(base, base) == 1.0
    assert utility_score({"en": 1.0, "bn": 0.6}, base) == 1.0
    assert utility_score({"en": 0.9, "bn": 0.3}, base) == pytest.approx(2 / 3)
    assert language_score({"en": 0.9, "bn": 0.3}, base) == pytest.approx(0.5)
    assert math.isnan(utility_score({"en": 1.0}, {"en": 0.0}))
    with pytest.raises(InputError, match="different languages"):
        utility_score({"en": 0.9}, base)


def test_neighbour_damage_is_zero_for_nothing_and_one_for_destruction() -> None:
    assert neighbour_damage(0.8, 0.8) == 0.0
    assert neighbour_damage(0.0, 0.8) == 1.0
    assert neighbour_damage(0.9, 0.6) == pytest.approx(-0.5)
    assert bits_per_byte_delta(1.5, 1.2) == pytest.approx(0.3)
    assert math.isnan(relative_score(0.5, 0.0))


def test_oracle_scores_one_and_doing_nothing_zero() -> None:
    oracle = score_v1(memory_score(1.0), 1.0, 1.0, robustness_score({"a": 1.0}), privacy_score(0.4, 0.4, 0.9))
    nothing = score_v1(
        memory_score(0.0), 1.0, 1.0, robustness_score({"a": 0.0}), privacy_score(0.9, 0.4, 0.9)
    )
    assert (oracle, nothing) == (1.0, 0.0)
    assert score_v1(1.0, 1.0, 1.0, 0.5) == pytest.approx(0.8)
    assert robustness_score({"relearn": 1.3, "quantise": 0.2}) == pytest.approx(0.2)
    assert math.isnan(robustness_score({}))
    assert math.isnan(privacy_score(0.5, 0.5, 0.5))


def test_collapsed_arm_is_recognised_by_utility_or_by_gibberish() -> None:
    assert collapsed(0.79, 0.0, 0.0) and collapsed(0.9, 0.06, 0.0)
    assert not collapsed(0.8, 0.05, 0.0)


def test_legacy_memorisation_by_hand() -> None:
    assert legacy_memorisation(0.0, 0.0, 0.0, 0.0) == 1.0
    assert legacy_memorisation(0.5, 0.5, 0.5, 0.5) == pytest.approx(0.5)
    assert legacy_memorisation(1.0, 0.0, 0.0, 0.0) == 0.0


def test_agreement_after_an_attack_by_hand() -> None:
    assert relearning_agreement(0.3, 0.3) == relearning_agreement(0.0, 0.0) == 1.0
    assert relearning_agreement(0.6, 0.2) == pytest.approx(0.5)
    assert quantisation_agreement(0.0, 0.8) == 0.0
    assert quantisation_agreement(0.4, 0.2) == pytest.approx(2 / 3)
    assert relearning_agreement(-0.2, 0.2) == 0.0
    assert math.isnan(quantisation_agreement(math.nan, 0.2))
