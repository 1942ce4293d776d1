"""Triples as token ids: one batch of 3B rows, anchors first, then counterfactuals, then attacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmie.data.triples import Triple
from mmie.errors import InputError
from mmie.models.hooks import kept_tokens
from mmie.models.prompts import Batch, Encoded, collate, encode, padding_id


@dataclass(frozen=True)
class TripleRows:
    """Triples of a set, encoded once; prompt and response are tokenised apart."""

    keys: list[str]
    languages: list[str]
    """Of the attacks."""
    encoded: list[tuple[Encoded, Encoded, Encoded]]
    """Anchor, counterfactual, attack."""
    pad_id: int

    @classmethod
    def of(cls, triples: Sequence[Triple], tokenizer: Any, *, longest: int | None = None) -> TripleRows:
        """Encode triples; a counterfactual without an answer is a prompt alone.

        Raises:
            InputError: no triples, or a row longer than the model reads.
        """
        if not triples:
            raise InputError("triples: none is left to train on. Check their files, languages and splits.")
        encoded = []
        for triple in triples:
            prompts = (triple.anchor_prompt, triple.counterfactual_prompt, triple.adversarial)
            answers = (triple.anchor_response, triple.cf_response, triple.adversarial_response)
            items = [
                encode(tokenizer, f"{triple.system}\n{prompt}" if triple.system else prompt, answer)
                for prompt, answer in zip(prompts, answers, strict=True)
            ]
            if longest is not None and max(len(item.ids) for item in items) > longest:
                raise InputError(
                    f"{triple.file}:{triple.line}: longer than the {longest} tokens of the model."
                )
            encoded.append((items[0], items[1], items[2]))
        names = [triple.triple_id for triple in triples]
        return cls(names, [triple.lang_x for triple in triples], encoded, padding_id(tokenizer))

    def __len__(self) -> int:
        return len(self.encoded)

    def batch(self, rows: Sequence[int], *, side: str = "left") -> Batch:
        """[a_1 .. a_B, p_1 .. p_B, x_1 .. x_B], padded to the longest of the 3B rows."""
        ordered = [self.encoded[row][role] for role in range(3) for row in rows]
        return collate(ordered, self.pad_id, side=side)

    def benign_answers(self, rows: Sequence[int]) -> int:
        """Anchors and counterfactuals that have an answer."""
        return sum(len(item.ids) > item.answer_start for row in rows for item in self.encoded[row][:2])


def prompt_tokens(batch: Batch) -> Tensor:
    """True on prompt tokens but the first of a row, [rows, time]: from construction, not from ids."""
    return kept_tokens(batch.attention_mask) & ~batch.answer_mask


def with_answer(mask: Tensor) -> Tensor:
    """Numbers of the rows that have an answer token."""
    return torch.nonzero(mask.any(-1)).flatten()
