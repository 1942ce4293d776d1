"""The values of the contrastive losses, computed by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.contrastive.losses import infonce, linear, triplet
from mmie.contrastive.settings import ContrastSettings
from mmie.contrastive.term import contrast_loss

TABLE = [
    (1.0, -1.0, -14.2857, 3.9047e-13, 0.0),
    (1.0, 0.0, -7.1429, 6.2487e-07, 0.0),
    (0.9, 0.1, -5.7143, 1.0881e-05, 0.2),
    (1.0, 0.5, -3.5714, 7.9018e-04, 0.5),
    (0.0, 0.0, 0.0, 0.693147, 1.0),
    (1.0, 1.0, 0.0, 0.693147, 1.0),
    (-1.0, 1.0, 14.2857, 28.571429, 3.0),
]
cosine = st.floats(-1, 1, width=32)


@pytest.mark.regression("CON-05")
@pytest.mark.parametrize(("positive", "negative", "lin", "nce", "tri"), TABLE)
def test_the_losses_have_their_published_values(
    positive: float, negative: float, lin: float, nce: float, tri: float
) -> None:
    p, x = torch.tensor([positive], dtype=torch.float64), torch.tensor([negative], dtype=torch.float64)
    assert linear(p, x).item() == pytest.approx(lin, abs=5e-5)
    assert infonce(p, x[:, None]).item() == pytest.approx(nce, rel=1e-4)
    assert triplet(p, x).item() == pytest.approx(tri, abs=1e-9)


@pytest.mark.parametrize(("negatives", "value"), [(1, 0.693147), (3, 1.386294), (7, 2.079442)])
def test_equal_negatives_cost_the_log_of_their_number(negatives: int, value: float) -> None:
    assert infonce(torch.zeros(1), torch.zeros(1, negatives)).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.regression("CON-05")
def test_only_the_linear_loss_pulls_as_hard_at_the_end() -> None:
    slopes = {}
    for name, loss in (
        ("linear", linear),
        ("infonce", lambda p, x: infonce(p, x[:, None])),
        ("triplet", triplet),
    ):
        p, x = torch.tensor([1.0], requires_grad=True), torch.tensor([-1.0])
        loss(p, x).sum().backward()
        assert p.grad is not None
        slopes[name] = p.grad.item()
    assert slopes["linear"] == pytest.approx(-7.142857, abs=1e-5)
    assert abs(slopes["infonce"]) < 1e-10
    assert slopes["triplet"] == 0.0


@given(positive=cosine, negative=cosine)
@settings(max_examples=50)
def test_losses_stay_in_their_range(positive: float, negative: float) -> None:
    p, x = torch.tensor([positive]), torch.tensor([negative])
    assert abs(linear(p, x).item()) <= 1 / 0.07 + 1e-4
    assert infonce(p, x[:, None]).item() >= 0
    assert 0 <= triplet(p, x).item() <= 3


@given(positive=cosine, negative=cosine)
@settings(max_examples=50)
def test_infonce_with_one_negative_is_a_logistic_loss(positive: float, negative: float) -> None:
    value = infonce(torch.tensor([positive]).double(), torch.tensor([[negative]]).double()).item()
    assert value == pytest.approx(math.log1p(math.exp((negative - positive) / 0.07)), rel=1e-6, abs=1e-12)


@pytest.mark.regression("CON-06")
def test_every_option_gives_another_loss_on_one_batch() -> None:
    generator = torch.Generator().manual_seed(2)
    vectors: Any = torch.randn(3, 1, 4, 8, generator=generator)
    variants = [
        {"loss": "infonce"},
        {"loss": "infonce", "negatives": "in_batch"},
        {"loss": "linear"},
        {"loss": "triplet"},
    ]
    values = [contrast_loss(*vectors, ContrastSettings.read(variant)).mean().item() for variant in variants]
    assert len({round(value, 6) for value in values}) == len(variants)
