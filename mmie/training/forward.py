"""One forward pass over a batch, with logits only where answers are predicted."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from mmie.errors import InputError
from mmie.models.blocks import input_device
from mmie.models.prompts import Batch
from mmie.objectives.masking import answer_nll


def answer_logits(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Logits that predict the answers of a batch, aligned with their targets.

    The vocabulary projection dominates small models, so columns before the first answer are left
    out. Batches padded on the left waste the least.

    Args:
        model: a causal language model, wrapped or not.
        batch: ids, masks and positions, [batch, time].

    Returns:
        Logits [batch, columns, vocabulary], target ids [batch, columns], answer mask
        [batch, columns]; columns reaches from the first answer token of any row to the end.
    """
    logits, targets, mask = _answer_forward(model, batch)
    return logits[:, -mask.shape[1] - 1 : -1], targets, mask


def _answer_forward(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """All logits that the model returns, target ids and answer mask, the latter [batch, columns]."""
    first = int(batch.answer_mask.any(0).int().argmax())
    if first == 0:
        raise InputError("an answer starts at the first token, so nothing predicts it. Add a BOS token.")
    columns = batch.answer_mask.shape[1] - first
    reduced = {"logits_to_keep": columns + 1} if _reduces_logits(model) else {}
    batch = batch.to(input_device(model))
    logits = model(**batch.inputs(), use_cache=False, **reduced).logits
    return logits, batch.input_ids[:, first:], batch.answer_mask[:, first:]


def answer_token_logits(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of answer tokens alone: the vocabulary projection reads their positions and no other.

    In `answer_logits` every row takes as many columns as the longest answer; here none is wasted.

    Args:
        model: a causal language model, wrapped or not.
        batch: ids, masks and positions, [batch, time].

    Returns:
        Logits [tokens, vocabulary] and target ids [tokens], rows one after the other; answer mask
        [batch, columns] as in `answer_logits`.
    """
    return answer_token_states(model, batch)[1:]


def answer_token_states(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the vocabulary projection reads at answer tokens, [tokens, width], and `answer_token_logits`."""
    unwrapped: Any = model
    head = unwrapped.get_output_embeddings()
    first = int(batch.answer_mask.any(0).int().argmax())
    chosen = batch.answer_mask[:, first:]
    states: list[Tensor] = []

    def only_answers(_module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = given[0][:, -chosen.shape[1] - 1 : -1]
        states.append(hidden[chosen.to(hidden.device)])
        return (states[0].unsqueeze(0), *given[1:])

    handle = head.register_forward_pre_hook(only_answers)
    try:
        logits, targets, mask = _answer_forward(model, batch)
    finally:
        handle.remove()
    return states[0], logits[0], targets[mask], mask


def batch_nll(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Summed answer NLL in nats and answer length in tokens of each item, [batch] each."""
    return answer_nll(*answer_logits(model, batch))


def _reduces_logits(model: nn.Module) -> bool:
    unwrapped: Any = model
    if hasattr(unwrapped, "get_base_model"):
        unwrapped = unwrapped.get_base_model()
    return "logits_to_keep" in inspect.signature(unwrapped.forward).parameters


def model_limit(model: nn.Module) -> int | None:
    """Longest sequence the model has positions for, or None if its configuration states none."""
    limit = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    return limit if isinstance(limit, int) else None
