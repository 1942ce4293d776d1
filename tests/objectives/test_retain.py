from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.objectives.retain import (
    hidden_distance,
    masked_kl,
    nll,
    token_jsd,
    token_kl,
    token_kl_cached,
    top_tokens,
)

LOG = math.log


def test_kl_to_itself_is_zero() -> None:
    logits = torch.randn(2, 3, 9)
    assert masked_kl(logits, logits.clone(), torch.ones(2, 3, dtype=torch.bool)).item() == 0.0


def test_kl_has_the_reference_on_the_left() -> None:
    # p0 = (3/4, 1/4), p = (1/2, 1/2).
    reference = torch.tensor([[[LOG(3.0), 0.0]]])
    trained = torch.zeros(1, 1, 2)
    by_hand = 0.75 * LOG(0.75 / 0.5) + 0.25 * LOG(0.25 / 0.5)
    assert token_kl(trained, reference).item() == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.regression("TRN-04")
def test_kl_is_a_mean_over_answer_tokens() -> None:
    # One item, six answer tokens of equal divergence, four other positions of a huge one.
    reference = torch.zeros(1, 10, 2)
    reference[..., 0] = LOG(3.0)
    trained = torch.zeros(1, 10, 2)
    trained[:, 6:, 0] = -30.0
    mask = torch.tensor([[True] * 6 + [False] * 4])
    by_hand = 0.75 * LOG(0.75 / 0.5) + 0.25 * LOG(0.25 / 0.5)
    assert masked_kl(trained, reference, mask).item() == pytest.approx(by_hand, abs=1e-6)
    # What "divide by the batch" makes of it at T = 6.
    per_batch = (token_kl(trained, reference) * mask).sum() / 1
    assert per_batch.item() == pytest.approx(6.0 * by_hand, abs=1e-5)


@given(seed=st.integers(0, 1000), k=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_cached_kl_is_a_lower_bound_and_exact_with_the_whole_vocabulary(seed: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    reference = 3 * torch.randn(4, 20, generator=generator)
    trained = 3 * torch.randn(4, 20, generator=generator)
    full = token_kl(trained, reference)
    cached = token_kl_cached(trained, top_tokens(reference, k))
    assert bool((cached <= full + 1e-4).all())
    assert bool((cached >= -1e-5).all())
    if k == 20:
        assert torch.allclose(cached, full, atol=1e-5)


def test_cached_kl_by_hand() -> None:
    # p0 = (1/2, 1/4, 1/4), p = (1/4, 1/4, 1/2), one token cached: 1/2 log 2 + 1/2 log(2/3).
    reference = torch.tensor([[0.5, 0.25, 0.25]]).log()
    trained = torch.tensor([[0.25, 0.25, 0.5]]).log()
    cached = token_kl_cached(trained, top_tokens(reference, 1))
    assert cached.item() == pytest.approx(0.5 * LOG(2) + 0.5 * LOG(2 / 3), abs=1e-5)


def test_cached_kl_has_finite_gradients_when_nothing_is_left_over() -> None:
    reference = torch.tensor([[200.0, 0.0, 0.0]])
    trained = torch.tensor([[150.0, 0.0, 0.0]], requires_grad=True)
    token_kl_cached(trained, top_tokens(reference, 1)).sum().backward()
    assert bool(torch.isfinite(trained.grad).all())


def test_mean_nll_weighs_items_not_tokens() -> None:
    assert nll(torch.tensor([6.0, 1.0]), torch.tensor([6, 1])).tolist() == [1.0, 1.0]


def test_jsd_is_zero_at_the_reference_and_log_two_between_disjoint_distributions() -> None:
    logits = torch.randn(2, 3, 9)
    assert token_jsd(logits, logits.clone()).abs().max().item() == pytest.approx(0.0, abs=1e-6)
    one, other = torch.tensor([200.0, 0.0]), torch.tensor([0.0, 200.0])
    assert token_jsd(one, other).item() == pytest.approx(LOG(2), abs=1e-6)


def test_jsd_by_hand_and_symmetric() -> None:
    # p = (3/4, 1/4), p0 = (1/4, 3/4), middle (1/2, 1/2).
    p, p0 = torch.tensor([0.75, 0.25]).log(), torch.tensor([0.25, 0.75]).log()
    by_hand = 0.75 * LOG(1.5) + 0.25 * LOG(0.5)
    assert token_jsd(p, p0).item() == pytest.approx(by_hand, abs=1e-6)
    assert token_jsd(p0, p).item() == pytest.approx(by_hand, abs=1e-6)


def test_hidden_distance_is_the_squared_norm_over_the_width() -> None:
    hidden = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]])
    assert hidden_distance(hidden, torch.zeros(2, 4)).tolist() == [7.5, 0.0]
    assert hidden_distance(hidden, hidden).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("divergence", [token_kl, token_jsd])
def test_gradients_are_those_of_finite_differences(divergence: Any) -> None:
    generator = torch.Generator().manual_seed(2)
    logits, reference = (torch.randn(2, 3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: divergence(z, reference), (logits,))
