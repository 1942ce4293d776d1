"""A fixed text before every input of a model, whatever computes on it.

The prefix is put in at the model's own forward, so likelihoods, generations, attacks and training all
have it, without any of them knowing. Callers see logits of the positions they sent.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmie.errors import InputError
from mmie.models.hooks import edits_disabled, hold, rows_going_on
from mmie.training.forward import model_limit


@dataclass
class _Request:
    """Where the prefix of each row stands; lives from a pass without cache to the next one."""

    place: Tensor
    """Position of the first token after the prefix' place, without the prefix, [batch]."""
    kept: int | None = None
    """Number of last positions whose logits the caller wants; None for all."""
    origin: Tensor | None = None
    """Positions of the caller's tokens in the longer input, [batch, time]; None in cached steps."""


@contextmanager
def prefixed(model: nn.Module, prefix: list[int], *, start_id: int | None) -> Iterator[nn.Module]:
    """Let every forward pass of the model see `prefix` before its text.

    It stands after the beginning-of-sequence token where a row has one, else at the row's first real
    token, and is never padding. With a key-value cache it is put in once, with the prompt.

    Args:
        model: a causal language model.
        prefix: token ids, at least one.
        start_id: id of the beginning-of-sequence token; None where the tokenizer has none.

    Raises:
        InputError: the model is called with embeddings, goes on with a cache that began elsewhere, or has
            fewer positions than a row and the prefix need together.
    """
    if not prefix:
        raise InputError("prefix: no tokens. Give a text.")
    parameters, limit = inspect.signature(model.forward), model_limit(model)
    requests: list[_Request] = []

    def before(_model: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        if edits_disabled(model):
            return None
        given = dict(parameters.bind_partial(*args, **kwargs).arguments)
        given |= given.pop("kwargs", {})
        cache = given.get("past_key_values")
        if cache is None or int(cache.get_seq_length()) == 0:
            requests[:] = [_begin(given, prefix, start_id)]
        elif not requests:
            raise InputError("prefix: the cache began without it. Begin with the prompt inside `applied`.")
        else:
            rows = rows_going_on(model)
            if rows is not None:
                requests[0].place = requests[0].place[rows]
            _go_on(given, requests[0], len(prefix))
        # Shapes are known without waiting for the device; rows are counted where padding may be in them.
        if limit is not None and given["attention_mask"].shape[1] > limit:
            check_room(int(given["attention_mask"].sum(1).max()) - len(prefix), len(prefix), limit)
        return (), given

    def after(_model: nn.Module, _args: Any, output: Any) -> None:
        if edits_disabled(model):
            return
        request = requests[0]
        if request.origin is not None:
            where = request.origin.unsqueeze(-1).expand(-1, -1, output.logits.shape[-1])
            output.logits = output.logits.gather(1, where)
        if request.kept is not None:
            output.logits = output.logits[:, -request.kept :]

    with ExitStack() as stack:
        hold(stack, model, model.register_forward_pre_hook(before, with_kwargs=True))
        hold(stack, model, model.register_forward_hook(after))
        yield model


def check_room(text: int, prefix: int, positions: int) -> None:
    """Refuse a text that has no room beside the prefix: beyond its positions a model computes nonsense.

    The text itself is not cut here. Every other arm would still see the whole of it.

    Args:
        text: its tokens, generated ones included.
        prefix: tokens of the prefix.
        positions: those of the model.

    Raises:
        InputError: together they are more.
    """
    if text + prefix > positions:
        raise InputError(
            f"model.max_length: a text of {text} tokens and an instruction of {prefix} are more than the "
            f"{positions} positions of the model. Set model.max_length to {positions - prefix} or less, so "
            "that every arm sees the same shorter text, or shorten the arm's `instruction`."
        )


def _begin(given: dict[str, Any], prefix: list[int], start_id: int | None) -> _Request:
    """Put the prefix into ids, mask and positions, in place."""
    ids = given.get("input_ids")
    if ids is None or given.get("labels") is not None:
        raise InputError("prefix: the model must be called with input_ids and without labels.")
    mask = given.get("attention_mask")
    mask = torch.ones_like(ids) if mask is None else mask.long()
    first = mask.argmax(1)
    if start_id is not None:
        first = first + (ids.gather(1, first[:, None])[:, 0] == start_id)
    time = ids.shape[1]
    origin = torch.arange(time, device=ids.device).expand(len(ids), time)
    origin = origin + (origin >= first[:, None]) * len(prefix)
    longer = (len(ids), time + len(prefix))
    inside = first[:, None] + torch.arange(len(prefix), device=ids.device)
    new_ids = ids.new_zeros(longer).scatter(1, origin, ids)
    new_ids = new_ids.scatter(1, inside, torch.tensor(prefix, device=ids.device).expand(len(ids), -1))
    new_mask = mask.new_zeros(longer).scatter(1, origin, mask).scatter(1, inside, 1)
    given["input_ids"], given["attention_mask"] = new_ids, new_mask
    given["position_ids"] = (new_mask.cumsum(1) - 1).clamp(min=0)
    return _Request(first, _take_kept(given), origin)


def _go_on(given: dict[str, Any], request: _Request, count: int) -> None:
    """A step with a cache: its mask and positions know nothing of the prefix yet."""
    mask = given.get("attention_mask")
    if mask is None or given.get("position_ids") is None:
        raise InputError("prefix: steps with a cache need attention_mask and position_ids.")
    mask = mask.long()
    time = mask.shape[1]
    origin = torch.arange(time, device=mask.device).expand(len(mask), time)
    origin = origin + (origin >= request.place[:, None]) * count
    longer = mask.new_ones(len(mask), time + count)
    given["attention_mask"] = longer.scatter(1, origin, mask)
    given["position_ids"] = given["position_ids"] + count
    request.origin, request.kept = None, _take_kept(given)


def _take_kept(given: dict[str, Any]) -> int | None:
    """Ask the model for all logits and remember how many the caller wants."""
    kept = given.pop("logits_to_keep", 0)
    if not isinstance(kept, int):
        raise InputError("prefix: logits_to_keep must be a number.")
    return kept or None
