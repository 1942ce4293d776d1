"""Teacher-forced scores: what the model gives to the expected answer, token by token.

All take tensors [batch, time] aligned with their targets (entry t of `nll` or `predicted` is about
`target[t]`) and a mask that is True on answer tokens: neither prompt nor padding. Padding never changes
a score. The negative log-likelihood of tokens comes from `mmie.objectives.masking`, so that training
and measurement cannot differ.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def summed(nll: Tensor, mask: Tensor) -> Tensor:
    """L = sum over answer tokens of -log p, nats, [batch]. Range [0, inf), up on forget."""
    return torch.where(mask, nll, 0.0).sum(-1)


def answer_probability(nll: Tensor, mask: Tensor) -> Tensor:
    """P = exp(-L/T), T the number of answer tokens: their geometric mean probability, [batch].

    Range (0, 1], down on forget; oracle: its own value, an arm that does nothing: the base's. NaN
    for an empty answer. Depends on how many tokens a tokenizer makes of a script: never compare
    languages by it. Source: Maini et al. 2024 (arXiv 2401.06121).
    """
    return torch.exp(-summed(nll, mask) / mask.sum(-1))


def bits_per_byte(nll_sum: float, answer: str) -> float:
    """BPB = L / (ln 2 * UTF-8 bytes of the answer); L without the end token, which has no bytes.

    Range [0, inf), bit/byte; up on forget, held on retained languages. NaN for an empty answer.
    Does not depend on the tokenizer, but UTF-8 spends 3 bytes on a Devanagari letter and 1 on a
    Latin one: compare models within a language.
    """
    size = len(answer.encode("utf-8"))
    return nll_sum / (math.log(2.0) * size) if size else math.nan


def exact_memorisation(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """EM = share of answer tokens that are the greedy prediction under teacher forcing, [batch].

    Range [0, 1], down on forget; oracle: its own value. NaN for an empty answer.
    Source: Tirumala et al. 2022; Dorna et al. 2025 (arXiv 2506.12618).
    """
    return ((predicted == target) & mask).sum(-1) / mask.sum(-1)


def extraction_strength(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """ES = 1 - k/T, k the smallest prefix after which every greedy prediction is right, [batch].

    0 when the last token is wrong, also at T = 1 (some implementations bottom out at 1/T).
    Range [0, 1], down on forget; NaN for an empty answer. Teacher-forced form of the definition
    that regenerates after every prefix.

    Args:
        predicted: greedy next-token ids under teacher forcing, [batch, time].
        target: answer ids, [batch, time].
        mask: True on answer tokens, [batch, time].

    Source: Carlini et al. 2021 (arXiv 2012.07805); Dorna et al. 2025 (arXiv 2506.12618).
    """
    wrong = (predicted != target) & mask
    # Right tokens at the end of the answer: those with no wrong token at or after them.
    wrong_from_here = wrong.flip(-1).cumsum(-1).flip(-1) > 0
    return (mask & ~wrong_from_here).sum(-1) / mask.sum(-1)


def without_end(mask: Tensor) -> Tensor:
    """An answer mask without the last answer token of every row, the end token, [batch, time]."""
    still_to_come = mask.flip(-1).cumsum(-1).flip(-1)
    return mask & (still_to_come > 1)


def perplexity(nll: Tensor, mask: Tensor) -> float:
    """exp(sum of L / sum of T) over a corpus: pooled over tokens, not a mean of batch means.

    Range [1, inf), up on forget, held on retained languages. NaN without tokens.
    """
    tokens = int(mask.sum())
    return math.exp(float(summed(nll, mask).sum()) / tokens) if tokens else math.nan
