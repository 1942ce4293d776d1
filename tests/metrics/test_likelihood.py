import math

import pytest
import torch

from mmie.metrics.likelihood import (
    answer_probability,
    bits_per_byte,
    exact_memorisation,
    extraction_strength,
    perplexity,
    summed,
    without_end,
)

TARGET = torch.tensor([[5, 6, 7]])


@pytest.mark.parametrize(
    ("predicted", "es", "em"),
    [
        ([1, 1, 1], 0.0, 0.0),
        ([1, 1, 7], 1 / 3, 1 / 3),
        ([5, 6, 7], 1.0, 1.0),
        ([5, 6, 1], 0.0, 2 / 3),
        ([1, 6, 7], 2 / 3, 2 / 3),
        ([5, 1, 7], 1 / 3, 2 / 3),
    ],
)
@pytest.mark.parametrize("pads", [0, 4])
def test_extraction_and_exact_memorisation_by_hand_with_and_without_pads(predicted, es, em, pads) -> None:
    # The pads repeat a right prediction: a mask that leaked would raise both scores.
    pad = torch.full((1, pads), 9)
    guess = torch.cat([torch.tensor([predicted]), pad], 1)
    target = torch.cat([TARGET, pad], 1)
    mask = torch.arange(3 + pads)[None] < 3
    assert extraction_strength(guess, target, mask).item() == pytest.approx(es)
    assert exact_memorisation(guess, target, mask).item() == pytest.approx(em)
    left = [part.flip(-1) for part in (pad,)]
    guess, target = torch.cat([*left, torch.tensor([predicted])], 1), torch.cat([*left, TARGET], 1)
    mask = torch.arange(3 + pads)[None] >= pads
    assert extraction_strength(guess, target, mask).item() == pytest.approx(es)


def test_single_wrong_token_is_not_extracted() -> None:
    one = torch.tensor([[True]])
    assert extraction_strength(torch.tensor([[1]]), torch.tensor([[2]]), one).item() == 0.0
    assert extraction_strength(torch.tensor([[2]]), torch.tensor([[2]]), one).item() == 1.0


def test_probability_is_the_geometric_mean() -> None:
    nll = torch.tensor([[math.log(2), math.log(2), 99.0], [math.log(4), 0.0, 7.0]])
    mask = torch.tensor([[True, True, False], [True, True, False]])
    assert answer_probability(nll, mask).tolist() == pytest.approx([0.5, 0.5])
    assert summed(nll, mask).tolist() == pytest.approx([2 * math.log(2), math.log(4)])


def test_what_is_masked_may_even_be_infinite() -> None:
    nll = torch.tensor([[1.0, math.inf]])
    assert summed(nll, torch.tensor([[True, False]])).item() == 1.0


def test_bits_per_byte_of_an_eighteen_byte_devanagari_word() -> None:
    word = "भारतीय"
    assert len(word) == 6 and len(word.encode()) == 18
    assert bits_per_byte(18 * math.log(2), word) == pytest.approx(1.0)
    assert math.isnan(bits_per_byte(1.0, ""))


def test_empty_answer_has_no_score() -> None:
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    ids = torch.zeros(1, 3, dtype=torch.long)
    assert math.isnan(extraction_strength(ids, ids, nothing).item())
    assert math.isnan(exact_memorisation(ids, ids, nothing).item())
    assert math.isnan(answer_probability(torch.zeros(1, 3), nothing).item())
    assert math.isnan(perplexity(torch.zeros(1, 3), nothing))


def test_end_token_is_the_last_of_each_answer_on_either_side_of_padding() -> None:
    mask = torch.tensor([[False, True, True, True], [True, True, False, False], [False] * 4])
    expected = [[False, True, True, False], [True, False, False, False], [False] * 4]
    assert without_end(mask).tolist() == expected


@pytest.mark.regression("EVA-09")
def test_perplexity_pools_tokens_and_ignores_pads() -> None:
    nll = torch.zeros(2, 12)
    nll[0, :10], nll[1, :2] = 1.0, 3.0
    mask = torch.zeros(2, 12, dtype=torch.bool)
    mask[0, :10], mask[1, :2] = True, True
    assert perplexity(nll, mask) == pytest.approx(3.794, abs=1e-3)
    wider = torch.nn.functional.pad(nll, (0, 7), value=50.0)
    assert perplexity(wider, torch.nn.functional.pad(mask, (0, 7))) == perplexity(nll, mask)
