from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import nn

from mmie.errors import InputError
from mmie.models.generation import generate_greedy
from mmie.models.prompts import collate
from mmie.training.batches import Examples
from mmie.training.divergence import TrainingDiverged
from mmie.training.forward import answer_logits, batch_nll
from mmie.training.reference import reference_log_likelihoods, reference_sums


def by_hand(model: Any, ids: list[int], start: int) -> float:
    """-sum log p of ids[start:], one item at a time, without masks or padding."""
    with torch.no_grad():
        log_p = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return -sum(float(log_p[place - 1, ids[place]]) for place in range(start, len(ids)))


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_stored_likelihoods_are_those_of_each_answer_alone(
    batch_size: int, toy_model: Any, toy_tokenizer: Any, toy_rows: Any
) -> None:
    rows = toy_rows("xx")
    table = reference_log_likelihoods(toy_model, toy_tokenizer, rows, batch_size)
    assert table["example_id"].tolist() == rows["example_id"].tolist()
    encoded = Examples.from_rows(rows, toy_tokenizer).encoded
    assert table["n_tokens"].tolist() == [len(item.ids) - item.answer_start for item in encoded]
    expected = [by_hand(toy_model, item.ids, item.answer_start) for item in encoded]
    assert table["nll_sum"].tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.regression("TRN-03")
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pads", [0, 3, 20])
def test_padding_leaves_the_loss_unchanged(
    side: str, pads: int, toy_model: Any, toy_tokenizer: Any, toy_rows: Any
) -> None:
    examples = Examples.from_rows(toy_rows("xx"), toy_tokenizer)
    item = examples.encoded[0]
    longer = type(item)([1] + [9] * (len(item.ids) - 1 + pads), 2)
    batch = collate([item, longer], 0, side=side)
    with torch.no_grad():
        padded, _ = batch_nll(toy_model, batch)
    assert padded[0].item() == pytest.approx(by_hand(toy_model, item.ids, item.answer_start), abs=1e-5)


@pytest.mark.regression("TRN-07", "TRN-08")
@pytest.mark.parametrize("pad_id", [0, 2])
def test_exactly_the_answer_and_its_end_token_are_targets(
    pad_id: int, toy_model: Any, toy_tokenizer: Any, toy_rows: Any
) -> None:
    """Also when the pad token is the end token (id 2)."""
    items = Examples.from_rows(toy_rows("xx"), toy_tokenizer).encoded
    batch = collate(items, pad_id, side="left")
    with torch.no_grad():
        _, targets, mask = answer_logits(toy_model, batch)
    for row, item in enumerate(items):
        assert targets[row][mask[row]].tolist() == item.ids[item.answer_start :]
        assert targets[row][mask[row]][-1].item() == 2


@pytest.mark.regression("MEM-06")
def test_the_pass_builds_no_graph_and_restores_the_training_mode(
    toy_model: Any, toy_tokenizer: Any, toy_rows: Any
) -> None:
    seen: list[tuple[bool, bool]] = []
    handle = toy_model.lm_head.register_forward_hook(
        lambda module, _, output: seen.append((module.training, output.requires_grad))
    )
    toy_model.train()
    reference_log_likelihoods(toy_model, toy_tokenizer, toy_rows("xx"))
    handle.remove()
    assert seen == [(False, False)]
    assert toy_model.training


def test_a_likelihood_that_is_no_number_names_its_item(
    toy_model: Any, toy_tokenizer: Any, toy_rows: Any
) -> None:
    with torch.no_grad():
        nn.init.constant_(toy_model.model.norm.weight, float("nan"))
    with pytest.raises(TrainingDiverged, match=r"fact\d+/q1 \(xx\)"):
        reference_log_likelihoods(toy_model, toy_tokenizer, toy_rows("xx"))


def test_a_row_without_stored_likelihood_or_of_another_length_is_refused(
    toy_model: Any, toy_tokenizer: Any, toy_rows: Any
) -> None:
    rows = toy_rows("xx")
    table = reference_log_likelihoods(toy_model, toy_tokenizer, rows)
    examples = Examples.from_rows(rows, toy_tokenizer)
    assert reference_sums(table, examples) == table["nll_sum"].tolist()
    with pytest.raises(InputError, match="no entry for fact11/q1"):
        reference_sums(table.head(11), examples)
    table.loc[3, "n_tokens"] += 1
    with pytest.raises(InputError, match="answer tokens, now"):
        reference_sums(table, examples)


@pytest.mark.regression("MEM-14")
def test_what_is_held_during_a_pass_does_not_grow_with_the_languages_measured_before(
    toy_model: Any, toy_tokenizer: Any, toy_rows: Any
) -> None:
    """Bytes of all live tensors at every forward pass, with everything kept that was measured."""
    gc.collect()
    held: list[int] = []

    def weigh(*_: Any) -> None:
        alive = {id(item): item for item in gc.get_objects() if type(item) is torch.Tensor}
        held.append(sum(item.nbytes for item in alive.values()))

    def highest(languages: list[str]) -> int:
        held.clear()
        results = []
        handle = toy_model.register_forward_hook(weigh)
        for language in languages:
            rows = toy_rows(language)
            results.append(reference_log_likelihoods(toy_model, toy_tokenizer, rows))
            results.append(
                generate_greedy(
                    toy_model, toy_tokenizer, rows["prompt"].tolist(), max_new_tokens=3, batch_size=6
                )
            )
            gc.collect()
        handle.remove()
        assert len(results) == 2 * len(languages)
        return max(held)

    highest(["xx"])
    assert highest(["xx"]) == highest(["xx", "yy", "zz", "vv", "ww"])
