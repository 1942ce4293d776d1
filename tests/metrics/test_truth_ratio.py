import math

import pytest

from mmie.metrics.truth_ratio import answer_chosen, closeness, retained_truth, truth_preference, truth_ratio


def test_geometric_and_arithmetic_means_give_different_ratios() -> None:
    assert truth_ratio(0.5, [0.1, 0.4]) == pytest.approx(0.4)
    assert truth_ratio(0.5, [0.1, 0.4], mean="arithmetic") == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("ratio", "close", "retained", "preference"),
    [(0.5, 0.5, 0.5, 2 / 3), (1.0, 1.0, 0.0, 0.5), (2.0, 0.5, 0.0, 1 / 3), (0.0, 0.0, 1.0, 1.0)],
)
def test_three_numbers_of_one_name(ratio, close, retained, preference) -> None:
    assert closeness(ratio) == pytest.approx(close)
    assert retained_truth(ratio) == pytest.approx(retained)
    assert truth_preference(ratio) == pytest.approx(preference)


def test_nothing_to_compare_is_nan() -> None:
    for value in (truth_ratio(0.5, []), truth_ratio(0.0, [0.1]), truth_ratio(math.nan, [0.1])):
        assert math.isnan(value)
        assert math.isnan(closeness(value))
        assert math.isnan(retained_truth(value))
        assert math.isnan(truth_preference(value))
    assert truth_ratio(0.5, [0.0, 0.2]) == 0.0


def test_right_answer_is_chosen_only_if_it_beats_every_wrong_one() -> None:
    assert answer_chosen(0.5, [0.1, 0.4]) == 1.0
    assert answer_chosen(0.4, [0.1, 0.4]) == 0.0
    assert math.isnan(answer_chosen(0.4, []))
