"""Values by hand at two or three words, and gradients by finite differences in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mmie.objectives.tokens import (
    cross_entropy_unlearning,
    inverted_hinge,
    jensun,
    logit_spread,
    max_entropy,
    max_entropy_reverse,
    satimp,
    undial,
    weighted_ascent,
)

LOG = math.log
FIRST = torch.tensor([0])
REFERENCE = torch.linspace(-2, 2, 24, dtype=torch.float64).reshape(4, 6).sin()


def logits_of(*probabilities: float) -> Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log()


def test_inverted_hinge_by_hand() -> None:
    assert inverted_hinge(logits_of(0.5, 0.3, 0.2), FIRST).item() == pytest.approx(1.2)
    assert inverted_hinge(torch.tensor([[200.0, 0.0]]), FIRST).item() == pytest.approx(2.0)
    assert inverted_hinge(torch.tensor([[0.0, 200.0]]), FIRST).item() == pytest.approx(0.0)


def test_both_directions_of_max_entropy_by_hand() -> None:
    p = logits_of(0.5, 0.25, 0.25)
    towards_p = -LOG(3) - (LOG(0.5) + 2 * LOG(0.25)) / 3
    assert max_entropy(p).item() == pytest.approx(towards_p)
    assert max_entropy_reverse(p).item() == pytest.approx(LOG(3) - 1.5 * LOG(2))
    uniform = torch.zeros(1, 7)
    assert max_entropy(uniform).item() == pytest.approx(0.0, abs=1e-6)
    assert max_entropy_reverse(uniform).item() == pytest.approx(0.0, abs=1e-6)


def test_one_direction_of_max_entropy_is_bounded_and_the_other_is_not() -> None:
    certain = torch.tensor([[1e4, 0.0, 0.0]])
    assert max_entropy_reverse(certain).item() == pytest.approx(LOG(3))
    assert max_entropy(certain).item() > 6000


def test_weighted_ascent_by_hand() -> None:
    assert weighted_ascent(logits_of(0.25, 0.75), FIRST, 1.0).item() == pytest.approx(0.25 * LOG(0.25))
    assert weighted_ascent(logits_of(0.25, 0.75), FIRST, 2.0).item() == pytest.approx(LOG(0.25) / 16)


def test_satimp_by_hand() -> None:
    loss = satimp(logits_of(0.25, 0.75), FIRST, 2.0, 1.0)
    assert loss.item() == pytest.approx(0.25**2 * 0.75 * LOG(0.25))


def test_ce_u_by_hand() -> None:
    assert cross_entropy_unlearning(torch.zeros(1, 2), FIRST).item() == pytest.approx(LOG(2))
    # p = (0.5, 0.3, 0.2): the teacher is (0, 0.6, 0.4).
    by_hand = -0.6 * LOG(0.3) - 0.4 * LOG(0.2)
    assert cross_entropy_unlearning(logits_of(0.5, 0.3, 0.2), FIRST).item() == pytest.approx(by_hand)


def test_undial_by_hand() -> None:
    z0 = logits_of(0.5, 0.3, 0.2)
    entropy = -0.5 * LOG(0.5) - 0.3 * LOG(0.3) - 0.2 * LOG(0.2)
    assert undial(z0, FIRST, z0, 0.0).item() == pytest.approx(entropy)
    # The target's odds divided by five: (0.1, 0.3, 0.2) / 0.6.
    by_hand = -(LOG(0.5) + 3 * LOG(0.3) + 2 * LOG(0.2)) / 6
    assert undial(z0, FIRST, z0, LOG(5)).item() == pytest.approx(by_hand)


def test_jensun_is_the_divergence_from_one_word() -> None:
    assert jensun(torch.tensor([[200.0, 0.0]]), FIRST).item() == pytest.approx(0.0, abs=1e-6)
    assert jensun(torch.tensor([[0.0, 200.0]]), FIRST).item() == pytest.approx(LOG(2), abs=1e-6)
    # p = (1/2, 1/2) against (1, 0), middle (3/4, 1/4).
    by_hand = 0.5 * (0.5 * LOG(2 / 3) + 0.5 * LOG(2)) + 0.5 * LOG(4 / 3)
    assert jensun(logits_of(0.5, 0.5), FIRST).item() == pytest.approx(by_hand)


def test_logit_spread_by_hand() -> None:
    assert logit_spread(torch.tensor([[4.0, 1.0, 1.0]])).item() == pytest.approx(4.0)
    assert logit_spread(torch.full((1, 5), 3.0)).item() == 0.0


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, y: inverted_hinge(z, y),
        lambda z, y: max_entropy(z),
        lambda z, y: max_entropy_reverse(z),
        lambda z, y: undial(z, y, REFERENCE, 2.0),
        lambda z, y: jensun(z, y),
        lambda z, y: logit_spread(z),
    ],
)
def test_gradients_are_those_of_finite_differences(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 3, 5, 2])
    assert torch.autograd.gradcheck(lambda z: loss(z, targets), (logits,))


@pytest.mark.parametrize(
    ("loss", "weight"),
    [
        (lambda z, y: weighted_ascent(z, y, 2.0), lambda p: p**2),
        (lambda z, y: satimp(z, y, 3.0, 1.5), lambda p: p**3 * (1 - p) ** 1.5),
    ],
)
def test_weights_carry_no_gradient(
    loss: Callable[[Tensor, Tensor], Tensor], weight: Callable[[Tensor], Tensor]
) -> None:
    """The gradient is that of the same sum with the weights held as numbers, checked numerically."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 3, 4])
    held = weight(logits.detach().softmax(-1)[range(3), targets])

    def with_held_weights(z: Tensor) -> Tensor:
        return -(held * cross_entropy(z, targets, reduction="none"))

    assert torch.autograd.gradcheck(with_held_weights, (logits,))
    (expected,) = torch.autograd.grad(with_held_weights(logits).sum(), logits)
    (found,) = torch.autograd.grad(loss(logits, targets).sum(), logits)
    assert torch.allclose(found, expected, atol=1e-12)


def test_the_teacher_of_ce_u_carries_no_gradient() -> None:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 3, 4])
    teacher = logits.detach().clone()
    teacher[range(3), targets] = -torch.inf
    teacher = teacher.softmax(-1)

    def with_held_teacher(z: Tensor) -> Tensor:
        return cross_entropy(z, teacher, reduction="none")

    assert torch.autograd.gradcheck(with_held_teacher, (logits,))
    (expected,) = torch.autograd.grad(with_held_teacher(logits).sum(), logits)
    (found,) = torch.autograd.grad(cross_entropy_unlearning(logits, targets).sum(), logits)
    assert torch.allclose(found, expected, atol=1e-12)
