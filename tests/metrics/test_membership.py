import math
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.metrics.membership import (
    loss_score,
    membership_auc,
    membership_gap,
    min_k,
    min_k_plus_plus,
    over_unlearned,
    privacy_exponential,
    privacy_ratio,
    reference_score,
    zlib_score,
)
from mmie.statistics.membership import priv_leak


def test_loss_and_zlib_by_hand_are_higher_for_likelier_texts() -> None:
    assert loss_score(6.0, 3) == -2.0
    assert math.isnan(loss_score(0.0, 0))
    word = "भारतीय रुपया"
    assert zlib_score(6.0, 3, word) == pytest.approx(-2.0 / len(zlib.compress(word.encode(), 6)))
    assert zlib_score(1.0, 3, word) > zlib_score(6.0, 3, word)


@pytest.mark.parametrize("pads", [0, 3])
def test_min_k_is_the_mean_of_the_lowest_forty_per_cent(pads) -> None:
    nll = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0], [7.0, 1.0, 0.0, 0.0, 0.0]])
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    nll = torch.nn.functional.pad(nll, (pads, pads), value=99.0)
    mask = torch.nn.functional.pad(mask, (pads, pads))
    # 40 % of 5 tokens are 2, of 2 tokens at least 1.
    assert min_k(nll, mask).tolist() == pytest.approx([-4.5, -7.0])
    assert math.isnan(min_k(torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool)).item())


def test_min_k_plus_plus_standardises_by_hand() -> None:
    # p = (1/2, 1/4, 1/4): log p in units of ln 2 is -1, -2, -2; mean -1.5, spread 0.5.
    logits = torch.tensor([[[0.5, 0.25, 0.25]]]).log()
    mask = torch.tensor([[True]])
    assert min_k_plus_plus(logits, torch.tensor([[0]]), mask).item() == pytest.approx(1.0, abs=1e-5)
    assert min_k_plus_plus(logits, torch.tensor([[2]]), mask).item() == pytest.approx(-1.0, abs=1e-5)
    flat = torch.zeros(1, 1, 3)
    assert min_k_plus_plus(flat, torch.tensor([[1]]), mask).item() == pytest.approx(0.0, abs=1e-5)


def test_min_k_plus_plus_ignores_pads_even_with_ids_outside_the_vocabulary() -> None:
    logits = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(1))
    target, mask = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]]), torch.ones(2, 4, dtype=torch.bool)
    mask[1, 2:] = False
    wider = torch.nn.functional.pad(logits, (0, 0, 3, 0), value=50.0)
    ids = torch.nn.functional.pad(target, (3, 0), value=-100)
    expected = min_k_plus_plus(logits, target, mask)
    assert torch.allclose(min_k_plus_plus(wider, ids, torch.nn.functional.pad(mask, (3, 0))), expected)


@pytest.mark.parametrize(
    ("members", "others", "value"),
    [([1, 1], [1, 1], 0.5), ([2, 3], [0, 1], 1.0), ([0, 1], [2, 3], 0.0), ([1, 3], [2], 0.5)],
)
def test_auc_of_ties_of_perfect_and_of_reversed_scores(members, others, value) -> None:
    assert membership_auc(members, others) == value


def test_auc_without_non_members_or_with_nan_is_nan() -> None:
    assert math.isnan(membership_auc([1.0], []))
    assert math.isnan(membership_auc([1.0, math.nan], [0.0]))


def test_privleak_by_hand_and_its_explosion_is_refused() -> None:
    assert priv_leak(0.4, 0.4) == 0.0
    assert priv_leak(1.0, 0.5) == -100.0
    assert priv_leak(0.0, 0.5) == 100.0
    assert math.isnan(priv_leak(0.00002, 0.981186))


def test_two_forms_of_the_privacy_score_disagree() -> None:
    assert privacy_ratio(0.4, 0.4) == privacy_exponential(0.4, 0.4) == 1.0
    assert privacy_ratio(0.9, 0.4) == 0.0
    assert math.isnan(privacy_ratio(math.nan, 0.4))
    assert privacy_exponential(0.9, 0.4) == pytest.approx(0.147, abs=1e-3)


def test_reference_attack_is_zero_for_the_reference_itself() -> None:
    assert reference_score([1.0, 5.0], [3.0, 5.0]).tolist() == [2.0, 0.0]


def test_pushing_below_chance_is_flagged() -> None:
    assert over_unlearned(0.44) and not over_unlearned(0.46)
    assert membership_gap(0.2, 0.45) == pytest.approx(-0.25)


@pytest.mark.regression("EVA-14")
def test_untouched_model_is_recognised_and_a_model_that_never_saw_the_texts_is_not(
    toy_model, toy_tokenizer, toy_rows
) -> None:
    """Members are known by construction: a model is trained on them, and the reference is not."""
    from mmie.evaluation import likelihood
    from mmie.models.prompts import collate, encode_all, padding_id
    from mmie.training.forward import batch_nll

    members, others = toy_rows("xx", 12), toy_rows("xx", 12, first_word=31)
    columns = ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus")

    def areas() -> dict[str, float]:
        seen = likelihood(toy_model, toy_tokenizer, members, batch_size=8)
        unseen = likelihood(toy_model, toy_tokenizer, others, batch_size=8)
        return {name: membership_auc(seen[name], unseen[name]) for name in columns}

    reference = areas()
    toy_model.requires_grad_(True)
    optimiser = torch.optim.Adam(toy_model.parameters(), lr=0.01)
    encoded = encode_all(toy_tokenizer, members["prompt"].tolist(), members["answer"].tolist())
    batch = collate(encoded, padding_id(toy_tokenizer))
    for _ in range(40):
        nll, length = batch_nll(toy_model, batch)
        optimiser.zero_grad()
        (nll / length).mean().backward()
        optimiser.step()
    trained = areas()
    for name in columns:
        assert membership_gap(trained[name], reference[name]) > 0.3, name
        assert membership_gap(reference[name], reference[name]) == 0.0


@settings(max_examples=50)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.lists(st.floats(-5, 5), min_size=1, max_size=8))
def test_auc_reverses_with_its_classes(first, second) -> None:
    assert membership_auc(first, second) == pytest.approx(1 - membership_auc(second, first))
