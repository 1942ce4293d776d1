import math

import pytest

from mmie.metrics.gate_quality import gate_quality


def test_rates_by_hand_and_false_positives_by_language() -> None:
    found = gate_quality([0.9, 0.4], {"en": [0.1, 0.2], "bn": [0.8, 0.1]}, 0.5)
    assert found.true_positive == 0.5
    assert found.false_positive == {"en": 0.0, "bn": 0.5}
    assert found.opening == pytest.approx(2 / 6)
    assert found.auroc == pytest.approx(7 / 8)


def test_gate_that_never_opens_has_opening_rate_zero() -> None:
    found = gate_quality([0.0], {"en": [0.0]}, 0.5)
    assert (found.opening, found.true_positive, found.auroc) == (0.0, 0.0, 0.5)
    assert math.isnan(gate_quality([1.0], {"en": []}, 0.5).false_positive["en"])
