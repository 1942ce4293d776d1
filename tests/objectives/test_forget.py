from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mmie.objectives.forget import bounded, gradient_ascent, npo, preference, simnpo


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


def test_the_bounded_loss_saturates_by_item() -> None:
    nll = torch.tensor([10.0, 1000.0], requires_grad=True)
    loss = bounded(nll, 10.0)
    assert loss.tolist() == pytest.approx([-7.6159, -10.0], abs=1e-4)
    loss.sum().backward()
    assert (-nll.grad).tolist() == pytest.approx([0.4200, 0.0], abs=1e-4)


def test_half_the_log_of_the_vocabulary_leaves_little_weight_at_uniform() -> None:
    uniform = torch.tensor([math.log(151936)], requires_grad=True)
    bounded(uniform, math.log(151936) / 2).sum().backward()
    assert -uniform.grad.item() == pytest.approx(0.0707, abs=1e-4)


def test_simnpo_at_its_margin_is_two_over_beta_log_two() -> None:
    assert simnpo(torch.tensor([1.3]), 2.5, 1.3).item() == pytest.approx(0.5545, abs=1e-4)
    # beta multiplies the margin too: log(1 + exp(-2.5 * (2 - 1))) * 2 / 2.5.
    by_hand = 0.8 * math.log1p(math.exp(-2.5))
    assert simnpo(torch.tensor([2.0]), 2.5, 1.0).item() == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize(("scale", "expected"), [(1.0, math.log(2)), (2 / 0.1, 20 * math.log(2))])
def test_preference_at_the_reference_is_its_scale_times_log_two(scale: float, expected: float) -> None:
    zero = torch.zeros(2)
    assert preference(zero, zero, 0.1, scale).tolist() == pytest.approx([expected] * 2, abs=1e-5)


def test_preference_falls_when_the_other_answer_gets_likelier() -> None:
    # gain 5, alternate gain -10: -log sigma(0.1 * 15).
    by_hand = math.log1p(math.exp(-1.5))
    loss = preference(torch.tensor([5.0]), torch.tensor([-10.0]), 0.1, 1.0)
    assert loss.item() == pytest.approx(by_hand, abs=1e-6)
    assert loss.item() < math.log(2)


@pytest.mark.parametrize(
    "loss",
    [
        gradient_ascent,
        lambda nll: bounded(nll, 3.0),
        lambda nll: npo(nll, torch.tensor([2.0, 9.0], dtype=torch.float64), 0.1),
        lambda nll: simnpo(nll, 2.5, 0.5),
        lambda nll: preference(nll, nll.flip(0) ** 2, 0.1, 1.0),
    ],
)
def test_gradients_are_those_of_finite_differences(loss: Callable[[Tensor], Tensor]) -> None:
    nll = torch.tensor([1.5, 4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (nll,))
