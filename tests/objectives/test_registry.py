"""The mask of every objective: what is no answer token contributes exactly nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmie.objectives.catalogue import FORGET
from mmie.objectives.registry import FORGET_LOSSES, Answers, counted_tokens, item_sums

VOCABULARY = 7
OPTIONS = {name: dict(term.options) for name, term in FORGET.items()}


def packed(answers: Answers) -> Answers:
    """The same answers as the loop hands them over: answer tokens alone, rows one after the other."""
    mask = answers.mask
    logits, reference = answers.logits, answers.reference_logits
    return replace(
        answers,
        logits=logits[mask],
        targets=answers.targets[mask],
        reference_logits=None if reference is None else reference[mask],
        alternate=None if answers.alternate is None else packed(answers.alternate),
    )


def loss_of(objective: str, answers: Answers) -> Tensor:
    """Loss of each item of answers that are still in columns."""
    return FORGET_LOSSES[objective](packed(answers), OPTIONS[objective])


def answers_of(seed: int, mask: Tensor, outside: int = 0) -> Answers:
    """Random predictions; targets outside the mask are `outside`."""
    generator = torch.Generator().manual_seed(seed)

    def side() -> Answers:
        shape = (*mask.shape, VOCABULARY)
        targets = torch.randint(0, VOCABULARY, mask.shape, generator=generator)
        return Answers(
            logits=torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True),
            targets=targets.masked_fill(~mask, outside),
            mask=mask,
            reference_nll=torch.rand(len(mask), generator=generator, dtype=torch.float64),
            reference_logits=torch.randn(shape, generator=generator, dtype=torch.float64),
        )

    return replace(side(), alternate=side())


def gradients(objective: str, answers: Answers) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of each item and the gradients of the logits of both answers."""
    loss = loss_of(objective, answers)
    assert answers.alternate is not None
    sides = (answers.logits, answers.alternate.logits)
    found = torch.autograd.grad(loss.sum(), sides, allow_unused=True)
    filled = [torch.zeros_like(side) if one is None else one for side, one in zip(sides, found, strict=True)]
    return loss, filled[0], filled[1]


@pytest.mark.parametrize("objective", FORGET_LOSSES)
@given(seed=st.integers(0, 10_000), data=st.data())
@settings(max_examples=25, deadline=None)
def test_prompts_and_pads_contribute_exactly_nothing(objective: str, seed: int, data: Any) -> None:
    rows = data.draw(
        st.lists(st.lists(st.booleans(), min_size=6, max_size=6).filter(any), min_size=1, max_size=3)
    )
    mask = torch.tensor(rows)
    answers = answers_of(seed, mask)
    loss, one, other = gradients(objective, answers)
    assert (one[~mask] == 0).all() and (other[~mask] == 0).all()
    # Any other prediction and label there gives the same loss, bit for bit.
    changed = answers_of(seed, mask, outside=-100)
    assert changed.alternate is not None
    for side in (changed, changed.alternate):
        with torch.no_grad():
            side.logits[~mask] = 1e4
            side.reference_logits[~mask] = -1e4  # type: ignore[index]
    assert torch.equal(gradients(objective, changed)[0], loss)


@pytest.mark.parametrize("objective", FORGET_LOSSES)
def test_a_label_of_minus_100_never_indexes_the_vocabulary(objective: str) -> None:
    """In a vocabulary of more than 100 words the entry V - 100 would be read without an error."""
    mask = torch.tensor([[False, False, True, True]])
    logits = torch.zeros(1, 4, 150, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[-100, -100, 3, 4]])
    side = Answers(
        logits, targets, mask, torch.zeros(1, dtype=torch.float64), torch.zeros(1, 4, 150).double()
    )
    loss = loss_of(objective, replace(side, alternate=side))
    (gradient,) = torch.autograd.grad(loss.sum() + 0.0 * logits.sum(), logits)
    assert torch.isfinite(loss).all()
    assert (gradient[:, :2] == 0).all()
    assert torch.equal(gradient[:, 2:, 50], gradient[:, 2:, 51])


@pytest.mark.parametrize("objective", FORGET_LOSSES)
@pytest.mark.parametrize("pads", [0, 3, 30])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_leaves_every_loss_unchanged(objective: str, pads: int, side: str) -> None:
    mask = torch.tensor([[False, True, True, True], [False, False, True, True]])
    answers = answers_of(3, mask)

    def widened(given: Answers) -> Answers:
        left, right = (pads, 0) if side == "left" else (0, pads)
        wide = {
            name: torch.nn.functional.pad(getattr(given, name), (0, 0, left, right), value=5.0)
            for name in ("logits", "reference_logits")
        }
        return replace(
            given,
            targets=torch.nn.functional.pad(given.targets, (left, right), value=-100),
            mask=torch.nn.functional.pad(given.mask, (left, right)),
            **wide,
        )

    assert answers.alternate is not None
    wide = replace(widened(answers), alternate=widened(answers.alternate))
    plain, padded = loss_of(objective, answers), loss_of(objective, wide)
    assert torch.allclose(plain, padded, atol=1e-12)


@pytest.mark.parametrize("objective", FORGET_LOSSES)
def test_an_item_does_not_depend_on_its_neighbours(objective: str) -> None:
    mask = torch.tensor([[True, True, True], [False, True, True]])
    answers = answers_of(4, mask)
    assert answers.alternate is not None

    def alone(given: Answers) -> Answers:
        assert given.reference_nll is not None and given.reference_logits is not None
        return Answers(
            given.logits[:1], given.targets[:1], given.mask[:1],
            given.reference_nll[:1], given.reference_logits[:1],
        )  # fmt: skip

    both = loss_of(objective, answers)
    one = loss_of(objective, replace(alone(answers), alternate=alone(answers.alternate)))
    assert both[0].item() == pytest.approx(one[0].item(), abs=1e-12)


def test_ce_u_leaves_the_first_answer_token_out() -> None:
    mask = torch.tensor([[False, True, True, True]])
    _, gradient, _ = gradients("ce_u", answers_of(5, mask))
    assert (gradient[0, :2] == 0).all()
    assert (gradient[0, 2:].abs().sum(-1) > 0).all()
    assert counted_tokens("ce_u", 3, None) == 2


def test_jensun_looks_at_the_refusal_alone() -> None:
    _, answer, refusal = gradients("jensun", answers_of(6, torch.tensor([[True, True]])))
    assert (answer == 0).all() and (refusal != 0).any()
    assert counted_tokens("jensun", 3, 5) == 5


def test_sums_go_to_their_items() -> None:
    mask = torch.tensor([[True, False, True], [False, False, False], [False, True, False]])
    assert item_sums(torch.tensor([1.0, 2.0, 4.0]), mask).tolist() == [3.0, 0.0, 4.0]
