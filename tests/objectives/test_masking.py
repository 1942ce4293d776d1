from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.errors import InputError
from mmie.objectives.masking import answer_nll, shift, token_nll


def test_uniform_logits_cost_log_vocabulary_per_answer_token() -> None:
    logits = torch.zeros(1, 4, 8)
    mask = torch.tensor([[False, True, True, False]])
    nll_sum, lengths = answer_nll(logits, torch.ones(1, 4, dtype=torch.long), mask)
    assert lengths.tolist() == [2]
    assert nll_sum.item() == pytest.approx(2 * math.log(8), abs=1e-5)


def test_position_before_a_token_predicts_it() -> None:
    ids = torch.tensor([[1, 5, 6, 2]])
    mask = torch.tensor([[False, False, True, True]])
    logits = torch.full((1, 4, 8), -20.0)
    logits[0, 1, 6] = 20.0
    logits[0, 2, 2] = 20.0
    nll_sum, _ = answer_nll(*shift(logits, ids, mask))
    assert nll_sum.item() == pytest.approx(0.0, abs=1e-5)


def test_a_label_of_minus_100_is_never_an_index() -> None:
    logits = torch.randn(2, 5, 128, requires_grad=True)
    targets = torch.randint(0, 128, (2, 5))
    mask = torch.tensor([[False, False, True, True, False]] * 2)
    expected = token_nll(logits, targets, mask)
    ignored = token_nll(logits, targets.masked_fill(~mask, -100), mask)
    assert torch.equal(expected, ignored)
    ignored.sum().backward()
    assert torch.equal(logits.grad[~mask], torch.zeros_like(logits.grad[~mask]))


def test_an_item_without_answer_tokens_is_refused() -> None:
    mask = torch.tensor([[False, True], [False, False]])
    with pytest.raises(InputError, match=r"rows \[1\] have no answer token"):
        answer_nll(torch.zeros(2, 2, 4), torch.zeros(2, 2, dtype=torch.long), mask)


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = torch.randn(1, 3, 50, dtype=torch.bfloat16)
    mask = torch.ones(1, 3, dtype=torch.bool)
    targets = torch.zeros(1, 3, dtype=torch.long)
    assert token_nll(logits, targets, mask).dtype == torch.float32
    assert torch.equal(token_nll(logits, targets, mask), token_nll(logits.float(), targets, mask))


@given(left=st.integers(0, 7), right=st.integers(0, 7), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_padding_columns_on_either_side_change_nothing(left: int, right: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 6, 11, generator=generator)
    targets = torch.randint(0, 11, (3, 6), generator=generator)
    mask = torch.zeros(3, 6, dtype=torch.bool)
    mask[:, 3:5] = True
    padded = torch.cat(
        [
            torch.randn(3, left, 11, generator=generator),
            logits,
            torch.randn(3, right, 11, generator=generator),
        ],
        dim=1,
    )
    wide_targets = torch.nn.functional.pad(targets, (left, right), value=-100)
    wide_mask = torch.nn.functional.pad(mask, (left, right))
    plain, _ = answer_nll(logits, targets, mask)
    wide, _ = answer_nll(padded, wide_targets, wide_mask)
    assert torch.allclose(plain, wide, atol=1e-5)


def test_prompt_tokens_replaced_in_the_labels_change_nothing() -> None:
    logits = torch.randn(2, 6, 11)
    targets = torch.randint(0, 11, (2, 6))
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[:, 4:] = True
    other = targets.clone()
    other[:, :4] = (other[:, :4] + 3) % 11
    assert torch.equal(answer_nll(logits, targets, mask)[0], answer_nll(logits, other, mask)[0])
