"""Text to tokens: the one function that training, likelihoods and generation share.

    ids = [bos] + tokens(prompt) + tokens(" " + answer) + [eos]

Prompt and answer are tokenised apart, so the border between them is a token border by construction
and the prompt of a generation is exactly the prompt of its likelihood.

The tokenizer carries the experiment's length limit as `model_max_length`, so every stage has the same
one. What does not fit is cut here and nowhere else: `mmie.models.lengths` has said before how much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmie.errors import InputError


@dataclass(frozen=True)
class Encoded:
    """One tokenised item.

    `answer_start` is the index in `ids` of the first answer token; for a generation prompt it is
    `len(ids)`.
    """

    ids: list[int]
    answer_start: int


@dataclass(frozen=True)
class Batch:
    """Padded items, all tensors [batch, time].

    input_ids: token ids; attention_mask: True on real tokens; answer_mask: True on answer tokens,
    the end token included; position_ids: 0 at the first real token of every row, whatever the
    padding.
    """

    input_ids: Tensor
    attention_mask: Tensor
    answer_mask: Tensor
    position_ids: Tensor

    def inputs(self) -> dict[str, Tensor]:
        """What the model's forward takes. The mask is an integer: some architectures subtract it."""
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask.long(),
            "position_ids": self.position_ids,
        }

    def to(self, device: str | torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def encode(tokenizer: Any, prompt: str, answer: str | None, *, count_eos: bool = True) -> Encoded:
    """Tokenise one item; `answer=None` stops before the answer, for generation.

    Args:
        tokenizer: a transformers tokenizer.
        prompt: text before the answer, without a trailing space; may be empty.
        answer: expected answer without its leading space, or None.
        count_eos: end the answer with the end token, as a target of its own.
    """
    return encode_all(tokenizer, [prompt], [answer], count_eos=count_eos)[0]


def encode_all(
    tokenizer: Any,
    prompts: Sequence[str],
    answers: Sequence[str | None],
    *,
    count_eos: bool = True,
    room: int = 0,
) -> list[Encoded]:
    """`encode` for many items at once: two calls of the tokenizer, not two an item.

    Args:
        tokenizer: a transformers tokenizer; its `model_max_length` limits every item.
        prompts: texts before the answers.
        answers: expected answers; None for generation.
        count_eos: end each answer with the end token.
        room: tokens to leave free below the limit, for a continuation.

    Raises:
        InputError: no end token although it counts, or a limit that leaves no room for a prompt.
    """
    if len(prompts) != len(answers):
        raise ValueError(f"{len(prompts)} prompts but {len(answers)} answers")
    eos = tokenizer.eos_token_id
    if count_eos and eos is None:
        raise InputError(
            "the tokenizer has no end-of-sequence token. Set eos_token in tokenizer_config.json."
        )
    limit = tokenizer.model_max_length - room
    if limit < 2:
        raise InputError(
            f"model.max_length: {tokenizer.model_max_length} tokens leave no prompt beside {room} new ones. "
            "Raise it, or lower decoding.max_new_tokens."
        )
    heads = _tokens(tokenizer, list(prompts))
    tails = _tokens(tokenizer, [f" {answer}" if answer else "" for answer in answers])
    items = []
    for head, tail, answer in zip(heads, tails, answers, strict=True):
        start = _start(tokenizer, head) + head
        ids = start if answer is None else start + tail + ([eos] if count_eos else [])
        items.append(_within(limit, Encoded(ids, len(start)), len(start) - len(head)))
    return items


def _within(limit: int, item: Encoded, kept: int) -> Encoded:
    """Cut an item to `limit` tokens: the oldest of the prompt first, then the end of the answer.

    The `kept` first tokens stay: models break without their beginning-of-sequence token, and the first
    answer token needs one to be predicted from.
    """
    surplus = len(item.ids) - limit
    if surplus <= 0:
        return item
    kept = max(kept, 1)
    cut = min(surplus, item.answer_start - kept)
    ids = item.ids[:kept] + item.ids[kept + cut :]
    return Encoded(ids[:limit], item.answer_start - cut)


def _start(tokenizer: Any, head: list[int]) -> list[int]:
    """Beginning-of-sequence token; where a tokenizer has none, an empty prompt starts with eos.

    Without it the first answer token would have nothing to be predicted from.
    """
    if tokenizer.bos_token_id is not None:
        return [tokenizer.bos_token_id]
    return [] if head else [tokenizer.eos_token_id]


def _tokens(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    # `verbose` only warns of texts beyond the limit, which are cut after prompt and answer are joined.
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def padding_id(tokenizer: Any) -> int:
    """Id to pad with: the pad token, else the end token (masks, not ids, say what is padding)."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    if pad is None:
        raise InputError("the tokenizer has neither a pad nor an end token. Set pad_token.")
    return int(pad)


def collate(encoded: Sequence[Encoded], pad_id: int, *, side: str = "right") -> Batch:
    """Pad items to one length.

    Args:
        encoded: at least one item.
        pad_id: id written on padding; masks never rely on it.
        side: "right" for likelihoods and training, "left" for generation.

    Returns:
        Batch of tensors [len(encoded), longest item].
    """
    if side not in ("left", "right"):
        raise ValueError(f"side must be 'left' or 'right', not {side!r}")
    if not encoded:
        raise ValueError("cannot collate an empty batch")
    width = max(len(item.ids) for item in encoded)
    lengths = torch.tensor([len(item.ids) for item in encoded])
    offsets = width - lengths if side == "left" else torch.zeros_like(lengths)
    input_ids = torch.full((len(encoded), width), pad_id, dtype=torch.long)
    for row, (item, offset) in enumerate(zip(encoded, offsets.tolist(), strict=True)):
        input_ids[row, offset : offset + len(item.ids)] = torch.tensor(item.ids, dtype=torch.long)
    starts = torch.tensor([item.answer_start for item in encoded])
    place = torch.arange(width)[None, :] - offsets[:, None]
    real = (place >= 0) & (place < lengths[:, None])
    return Batch(
        input_ids=input_ids,
        attention_mask=real,
        answer_mask=real & (place >= starts[:, None]),
        position_ids=place.clamp(min=0) * real,
    )


def length_buckets(encoded: Sequence[Encoded], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of items of similar length, so that little is spent on padding.

    Deterministic: longest first, ties in input order.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    order = sorted(range(len(encoded)), key=lambda index: (-len(encoded[index].ids), index))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
