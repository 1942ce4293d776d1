"""Adaptive distillation on tokens whose values were computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from mmie.objectives.distillation import adaptive_distillation


def logits_of(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log()


def test_a_sure_teacher_is_followed_and_an_unsure_one_replaced_by_the_answer() -> None:
    student, teacher = logits_of(0.5, 0.25, 0.25), logits_of(0.8, 0.1, 0.1)
    kl = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.1 / 0.25)
    found = adaptive_distillation(student, torch.tensor([0]), teacher).item()
    assert found == pytest.approx(0.8 * kl + 0.2 * math.log(2), abs=1e-12)
    # The teacher's probability is that of the token which is predicted here, not of a neighbour.
    found = adaptive_distillation(student, torch.tensor([1]), teacher).item()
    assert found == pytest.approx(0.1 * kl + 0.9 * math.log(4), abs=1e-12)


def test_temperature_softens_both_and_is_squared_out() -> None:
    student, teacher = logits_of(0.5, 0.5), logits_of(0.9, 0.1)
    # At tau = 2 the teacher has odds 3 : 1.
    kl = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    found = adaptive_distillation(student, torch.tensor([0]), teacher, temperature=2.0).item()
    assert found == pytest.approx(0.9 * 4 * kl + 0.1 * math.log(2), abs=1e-12)


def test_its_gradient_is_the_numerical_one() -> None:
    generator = torch.Generator().manual_seed(1)
    student = torch.randn(3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    targets = torch.tensor([0, 4, 2])
    assert torch.autograd.gradcheck(lambda z: adaptive_distillation(z, targets, teacher, 2.0), (student,))
