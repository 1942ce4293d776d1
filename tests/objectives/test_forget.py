from __future__ import annotations

import math

import pytest
import torch

from mmie.objectives.forget import gradient_ascent, npo


def test_npo_at_the_reference_is_two_over_beta_log_two() -> None:
    nll = torch.tensor([3.0, 40.0])
    assert npo(nll, nll.clone(), 0.1).tolist() == pytest.approx([13.862944] * 2, abs=1e-5)


def test_npo_at_the_reference_has_the_gradient_of_ascent() -> None:
    nll = torch.tensor([3.0, 40.0], requires_grad=True)
    npo(nll, nll.detach().clone(), 0.1).sum().backward()
    assert nll.grad.tolist() == pytest.approx([-1.0, -1.0], abs=1e-5)


@pytest.mark.parametrize(("gain", "weight"), [(0.0, 1.0), (10.0, 0.5379), (50.0, 0.01339)])
def test_npo_brakes_once_an_answer_is_forgotten(gain: float, weight: float) -> None:
    nll = torch.tensor([5.0 + gain], requires_grad=True)
    npo(nll, torch.tensor([5.0]), 0.1).sum().backward()
    assert -nll.grad.item() == pytest.approx(weight, abs=1e-4)


@pytest.mark.regression("TRN-05")
def test_npo_takes_the_logarithm_per_item() -> None:
    # Log-ratios log p - log p0 of -20 and +30 nats; with one ratio a batch it would be 19.482.
    loss = npo(torch.tensor([20.0, -30.0]), torch.zeros(2), 0.1)
    assert loss.mean().item() == pytest.approx(31.755, abs=1e-3)
    by_hand = [10 * 2 * math.log1p(math.exp(-2)), 10 * 2 * math.log1p(math.exp(3))]
    assert loss.tolist() == pytest.approx(by_hand, abs=1e-4)
    assert npo(torch.zeros(1), torch.zeros(1), 0.1).item() == pytest.approx(13.862944, abs=1e-5)


def test_npo_is_bounded_below_by_zero_and_gradient_ascent_is_not() -> None:
    huge = torch.tensor([1e6])
    assert npo(huge, torch.zeros(1), 0.1).item() == 0.0
    assert gradient_ascent(huge).item() == -1e6
