import math

import pytest
import torch

from mmie.metrics.divergence import kl_from_base, kl_to_base

BASE = torch.tensor([[[0.5, 0.5]]]).log()
MODEL = torch.tensor([[[0.25, 0.75]]]).log()
MASK = torch.tensor([[True]])


@pytest.mark.regression("EVA-11")
def test_each_direction_has_its_own_hand_value() -> None:
    forward = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    backward = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert kl_from_base(MODEL, BASE, MASK).item() == pytest.approx(forward)
    assert kl_to_base(MODEL, BASE, MASK).item() == pytest.approx(backward)
    assert forward != pytest.approx(backward)


@pytest.mark.regression("EVA-11")
def test_a_text_written_twice_has_the_mean_of_one_and_pads_count_nothing() -> None:
    def twice(logits: torch.Tensor) -> torch.Tensor:
        return torch.cat([logits, logits, torch.full_like(logits, 9.0)], 1)

    mask = torch.tensor([[True, True, False]])
    other = twice(MODEL)
    other[0, 2, 0] = 40.0
    for divergence in (kl_from_base, kl_to_base):
        once = divergence(MODEL, BASE, MASK).item()
        assert divergence(other, twice(BASE), mask).item() == pytest.approx(once)


def test_base_against_itself_is_zero_and_an_empty_answer_is_nan() -> None:
    assert kl_from_base(BASE, BASE, MASK).item() == 0.0
    assert math.isnan(kl_from_base(MODEL, BASE, ~MASK).item())
