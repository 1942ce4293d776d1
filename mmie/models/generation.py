"""Greedy generation in batches: left padding, a key-value cache, and nothing random.

Every arm is decoded by this one loop. It calls the model's own forward, so hooks and adapters that an
intervention attached are in force.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmie.models.blocks import input_device
from mmie.models.hooks import going_on_with
from mmie.models.prompts import Batch, collate, encode_all, length_buckets, padding_id


@dataclass(frozen=True)
class Generations:
    """Generated texts in the order of their prompts.

    `truncated[i]` is True when the length limit ended text i before the model did; `n_tokens[i]`
    counts its tokens without the end token.
    """

    texts: list[str]
    truncated: list[bool]
    n_tokens: list[int]


def generate_greedy(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int,
) -> list[str]:
    """Most likely continuation of every prompt, in input order; see `decode_greedily`."""
    return decode_greedily(
        model, tokenizer, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size
    ).texts


@torch.no_grad()
def decode_greedily(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int,
) -> Generations:
    """Greedy decoding with the facts about each text that a score may need.

    Args:
        model: causal language model; its mode (train or eval) is left as it is.
        tokenizer: its tokenizer.
        prompts: texts without a trailing space.
        max_new_tokens: length limit, in tokens.
        batch_size: prompts decoded together; prompts of similar length share a batch.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
    encoded = encode_all(tokenizer, prompts, [None] * len(prompts), room=max_new_tokens)
    pad_id = padding_id(tokenizer)
    ends = _end_ids(model, tokenizer)
    continuations: list[list[int]] = [[] for _ in prompts]
    for indices in length_buckets(encoded, batch_size):
        batch = collate([encoded[index] for index in indices], pad_id, side="left")
        rows = _continue(model, batch.to(input_device(model)), ends, max_new_tokens).tolist()
        for index, row in zip(indices, rows, strict=True):
            continuations[index] = row
    lengths = [_length(row, ends) for row in continuations]
    kept = [row[:length] for row, length in zip(continuations, lengths, strict=True)]
    texts = tokenizer.batch_decode(kept, skip_special_tokens=True) if kept else []
    return Generations(
        texts=[text.strip() for text in texts],
        # A row without an end token ran into the limit: only then is nothing of it cut off here.
        truncated=[not ends.intersection(row) for row in continuations],
        n_tokens=lengths,
    )


def _continue(model: Any, batch: Batch, ends: set[int], max_new_tokens: int) -> Tensor:
    """Token ids [batch, new]; what follows an end token in a row has no meaning.

    Rows that have ended leave the batch once they are a quarter of it: most answers are short, and the
    longest one would else be computed for all.
    """
    last_only = {"logits_to_keep": 1} if _keeps_last_logits(model) else {}
    end_ids = torch.tensor(sorted(ends), device=batch.input_ids.device)
    input_ids, positions = batch.input_ids, batch.position_ids
    mask = batch.attention_mask.long()
    chosen = mask.new_full((len(mask), max_new_tokens), int(end_ids[0]))
    alive = torch.arange(len(mask), device=mask.device)
    cache, rows, finished = None, None, torch.zeros(len(mask), dtype=torch.bool, device=mask.device)
    for step in range(max_new_tokens):
        with going_on_with(model, rows):
            output = model(
                input_ids=input_ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                **last_only,
            )
        cache, rows = output.past_key_values, None
        token = output.logits[:, -1].argmax(-1)
        chosen[alive, step] = torch.where(finished, end_ids[0], token)
        finished |= torch.isin(token, end_ids)
        if step + 1 == max_new_tokens or bool(finished.all()):
            break
        input_ids, positions = token[:, None], positions[:, -1:] + 1
        if int(finished.sum()) * 4 >= len(finished) and _selects_rows(cache):
            rows = torch.nonzero(~finished)[:, 0]
            cache.batch_select_indices(rows)
            alive, finished, mask = alive[rows], finished[rows], mask[rows]
            input_ids, positions = input_ids[rows], positions[rows]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return chosen


def _selects_rows(cache: Any) -> bool:
    """Whether rows can be taken out of a cache; those of recurrent layers cannot do it."""
    layers = getattr(cache, "layers", None) or ()
    return len(layers) > 0 and all(hasattr(layer, "batch_select_indices") for layer in layers)


def _end_ids(model: Any, tokenizer: Any) -> set[int]:
    """End tokens of the tokenizer and those the model's generation settings add."""
    settings = getattr(model, "generation_config", None)
    more = getattr(settings, "eos_token_id", None)
    ends = set(more) if isinstance(more, (list, tuple)) else {more}
    return {end for end in ends | {tokenizer.eos_token_id} if end is not None}


def _length(row: list[int], ends: set[int]) -> int:
    return next((place for place, token in enumerate(row) if token in ends), len(row))


def _keeps_last_logits(model: Any) -> bool:
    """Whether forward can skip the output layer for the prompt; wrappers show the inner one."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(inner.forward).parameters
