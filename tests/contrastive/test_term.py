"""One forward of 3B rows, its masks, its gradients and what accumulation does to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmie.contrastive.rows import TripleRows, prompt_tokens, with_answer
from mmie.contrastive.settings import ContrastSettings
from mmie.contrastive.term import ContrastTerm
from mmie.data.triples import Triple
from mmie.errors import InputError
from mmie.models.hooks import capture, edit
from mmie.models.prompts import collate
from mmie.objectives.masking import answer_nll
from mmie.training.divergence import TrainingDiverged
from mmie.training.forward import answer_logits

Make = Callable[..., list[Triple]]


class Shift(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.linspace(-0.1, 0.1, 16))

    def forward(self, hidden: Tensor, keep: Tensor) -> Tensor:
        return hidden + self.vector


def build(model: Any, triples: list[Triple], tokenizer: Any, **options: Any) -> ContrastTerm:
    settings = ContrastSettings.read({"batch": 6, "ramp_share": 0.0, "collapse_limit": 2.0, **options})
    return ContrastTerm(model, TripleRows.of(triples, tokenizer), [0, 1], settings, head=None, seed=1)


def gradient(model: Any, term: ContrastTerm, size: int | None = None) -> tuple[Tensor, dict[str, float]]:
    """Gradient of one step with respect to a vector that is added to block 0."""
    shift = Shift()
    with edit(model, {0: shift}):
        columns = term.accumulate(0, 10, size=size, where="step 0")
    assert shift.vector.grad is not None
    return shift.vector.grad.clone(), columns


@pytest.mark.regression("CON-01")
@pytest.mark.parametrize("side", ["left", "right"])
def test_one_forward_of_3b_rows_equals_three(
    side: str, toy_model: Any, toy_tokenizer: Any, make_triples: Make
) -> None:
    rows = TripleRows.of(make_triples(5), toy_tokenizer)
    joint = rows.batch(range(5), side=side)
    assert len({len(item.ids) for items in rows.encoded for item in items}) > 3
    with torch.no_grad():
        together = toy_model(**joint.inputs()).logits
        for role in range(3):
            own = collate([items[role] for items in rows.encoded], 0, side=side)
            apart = toy_model(**own.inputs()).logits
            found = together[role * 5 : role * 5 + 5][joint.attention_mask[role * 5 : role * 5 + 5]]
            assert torch.allclose(found, apart[own.attention_mask], atol=1e-5)


@pytest.mark.regression("CON-02")
def test_prompt_states_do_not_see_the_response(
    toy_model: Any, toy_tokenizer: Any, make_triples: Make
) -> None:
    triples = make_triples(4)
    other = [
        replace(triple, adversarial_response="w9", anchor_response="w33 w34", cf_response="w33 w34")
        for triple in triples
    ]
    one, two = (build(toy_model, each, toy_tokenizer).base for each in (triples, other))
    assert torch.allclose(one, two, atol=1e-6)
    rows = TripleRows.of(triples, toy_tokenizer)
    assert all(len(item.ids) > item.answer_start for items in rows.encoded for item in items)


def test_pooled_prompts_are_the_mean_of_the_blocks_output(
    toy_model: Any, toy_tokenizer: Any, make_triples: Make
) -> None:
    triples = make_triples(3)
    term = build(toy_model, triples, toy_tokenizer)
    item = term.rows.encoded[1][2]
    with torch.no_grad(), capture(toy_model, [1]) as seen:
        toy_model(input_ids=torch.tensor([item.ids[: item.answer_start]]))
    expected = seen.hidden[1][0, 1:].mean(0)
    assert torch.allclose(term.base[2, 1, 1], expected, atol=1e-5)


@pytest.mark.regression("CON-03")
@pytest.mark.parametrize("first", [[1], []])
def test_the_loss_of_a_two_token_response_is_the_hand_value(first: list[int]) -> None:
    from mmie.models.prompts import Encoded

    # Vocabulary of 4. Position t - 1 predicts token t; the response is tokens 3 and 2.
    ids = [*first, 1, 3, 2]
    batch = collate([Encoded(ids, len(ids) - 2), Encoded(ids, len(ids) - 2)], 0, side="left")
    table = torch.zeros(2, len(ids), 4)
    at = len(ids) - 3
    table[:, at] = torch.tensor([0.0, 0.0, 0.0, 2.0])
    table[:, at + 1] = torch.tensor([0.0, 0.0, 1.0, 0.0])

    class Stub(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(4, 1)

        def get_input_embeddings(self) -> nn.Module:
            return self.embedding

        def forward(self, **inputs: Any) -> Any:
            return SimpleNamespace(logits=table)

    nll, lengths = answer_nll(*answer_logits(Stub(), batch))
    # log(1 + 3 e^-2) + log(1 + 3 e^-1)
    hand = 0.340753 + 0.743668
    assert lengths.tolist() == [2, 2]
    assert nll.tolist() == pytest.approx([hand, hand], abs=1e-5)


@pytest.mark.regression("CON-04")
def test_refusals_have_a_gradient_of_their_own(
    toy_model: Any, toy_tokenizer: Any, make_triples: Make
) -> None:
    triples = make_triples(6)
    alone = {"weight": 0.0, "benign_weight": 0.0}
    refusing, columns = gradient(toy_model, build(toy_model, triples, toy_tokenizer, **alone))
    assert float(refusing.norm()) > 1e-4
    other = [replace(triple, adversarial_response="w44 w45") for triple in triples]
    changed, other_columns = gradient(toy_model, build(toy_model, other, toy_tokenizer, **alone))
    assert not torch.allclose(changed, refusing)
    assert other_columns["refusal_nll"] != columns["refusal_nll"]


def test_a_counterfactual_without_an_answer_adds_nothing_to_the_likelihood(
    toy_model: Any, toy_tokenizer: Any, make_triples: Make
) -> None:
    triples = make_triples(4, cf_response=None)
    term = build(toy_model, triples, toy_tokenizer)
    found = term.forward(range(4))
    assert len(found.benign_nll) == 4 and len(found.refusal_nll) == 4
    assert term.rows.benign_answers(range(4)) == 4
    batch = term.rows.batch(range(4))
    assert with_answer(batch.answer_mask).tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert not bool((prompt_tokens(batch) & batch.answer_mask).any())


@pytest.mark.regression("CON-11")
@pytest.mark.parametrize("options", [{}, {"loss": "linear"}, {"loss": "triplet"}])
def test_a_split_window_gives_the_gradient_of_the_whole(
    options: dict[str, Any], toy_model: Any, toy_tokenizer: Any, make_triples: Make
) -> None:
    triples = [replace(t, cf_response=None) if n % 2 else t for n, t in enumerate(make_triples(6))]
    term = build(toy_model, triples, toy_tokenizer, **options)
    whole, columns = gradient(toy_model, term)
    parts, split = gradient(toy_model, term, size=3 * 4)
    assert torch.allclose(parts, whole, atol=1e-6)
    assert split == pytest.approx(columns, abs=1e-5)


@pytest.mark.regression("CON-11")
def test_negatives_of_the_batch_do_not_survive_accumulation_and_that_is_recorded(
    toy_model: Any, toy_tokenizer: Any, make_triples: Make
) -> None:
    term = build(toy_model, make_triples(6), toy_tokenizer, negatives="in_batch")
    whole, columns = gradient(toy_model, term)
    parts, split = gradient(toy_model, term, size=3 * 2)
    assert split["contrast_loss"] < columns["contrast_loss"] - 0.1
    assert not torch.allclose(parts, whole, atol=1e-6)
    assert term.settings.splits_negatives(6) and not term.settings.splits_negatives(None)
    assert not ContrastSettings.read({"batch": 6}).splits_negatives(6)


@pytest.mark.regression("TRN-30")
def test_a_negative_loss_is_healthy_and_no_number_is_not(
    toy_model: Any, toy_tokenizer: Any, make_triples: Make
) -> None:
    triples = [replace(triple, counterfactual=triple.anchor) for triple in make_triples(6)]
    term = build(toy_model, triples, toy_tokenizer, loss="linear")
    _, columns = gradient(toy_model, term)
    assert columns["contrast_loss"] < -0.5
    with (
        edit(toy_model, {1: lambda hidden, keep: hidden * float("nan")}),
        pytest.raises(TrainingDiverged, match=r"step 0: contrast: not finite for t\d"),
    ):
        term.accumulate(0, 10, size=None, where="step 0")


def test_a_frozen_anchor_is_that_of_the_base(toy_model: Any, toy_tokenizer: Any, make_triples: Make) -> None:
    triples, alone = make_triples(6), {"refusal_weight": 0.0, "benign_weight": 0.0}
    found = [
        gradient(toy_model, build(toy_model, triples, toy_tokenizer, anchor=anchor, **alone))[0]
        for anchor in ("frozen_base", "stop_grad", "live")
    ]
    assert not torch.allclose(found[0], found[1]) and not torch.allclose(found[1], found[2])


def test_the_weight_rises_over_the_first_tenth() -> None:
    settings = ContrastSettings.read({"weight": 2.0})
    assert [settings.ramp(number, 40) for number in (0, 1, 2, 4, 39)] == [0.0, 0.5, 1.0, 2.0, 2.0]


@pytest.mark.regression("CON-10")
def test_a_model_whose_prompts_all_look_alike_stops_the_run(
    toy_model: Any, toy_tokenizer: Any, make_triples: Make
) -> None:
    term = build(toy_model, make_triples(6), toy_tokenizer, collapse_limit=0.3)
    with (
        edit(toy_model, {1: lambda hidden, keep: torch.ones_like(hidden) + 0 * hidden}),
        pytest.raises(TrainingDiverged, match="representations collapse"),
    ):
        lifted = nn.Parameter(torch.zeros(16))
        with edit(toy_model, {0: lambda hidden, keep: hidden * 0 + 1 + lifted}):
            term.accumulate(0, 10, size=None, where="step 0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "cosine"}, "contrast.loss"),
        ({"negatives": "in_batch", "loss": "linear"}, "in_batch belongs to loss infonce"),
        ({"head": True, "weight": 0.0}, "nothing would train it"),
        ({"batch": 1}, "two triples at least"),
        ({"temprature": 1.0}, "unknown key"),
    ],
)
def test_options_without_a_meaning_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ContrastSettings.read(options)
