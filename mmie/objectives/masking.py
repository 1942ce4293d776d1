"""Negative log-likelihood of answers, and nothing but answers."""

from __future__ import annotations

import torch
from torch import Tensor

from mmie.errors import InputError


def log_probabilities(logits: Tensor) -> Tensor:
    """Log-softmax over the last dimension, in float32 or, for float64 logits, in float64.

    Half precision has too few digits for the log-probabilities of a vocabulary.
    """
    return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)


def shift(logits: Tensor, input_ids: Tensor, answer_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Align logits with the tokens that they predict: position t - 1 predicts token t.

    Args:
        logits: [batch, time, vocabulary].
        input_ids: [batch, time].
        answer_mask: True on answer tokens, [batch, time].

    Returns:
        Logits, targets and mask, all over time - 1 positions.
    """
    return logits[:, :-1], input_ids[:, 1:], answer_mask[:, 1:]


def token_nll(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood of each target token, in nats; 0 where the mask is False.

    Args:
        logits: aligned with the targets (see `shift`), any float dtype, [batch, time, vocabulary].
        targets: token ids, [batch, time]; what stands outside the mask is never used as an index.
        mask: True on answer tokens, [batch, time].

    Returns:
        [batch, time], float32 (float64 for float64 logits).
    """
    # A label such as -100 would read the entry V - 100 without an error.
    index = targets.masked_fill(~mask, 0).unsqueeze(-1)
    return -log_probabilities(logits).gather(-1, index).squeeze(-1) * mask


def answer_nll(logits: Tensor, targets: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Summed negative log-likelihood of each answer and its number of tokens.

    Args:
        logits: [batch, time, vocabulary], aligned with the targets.
        targets: [batch, time].
        mask: [batch, time].

    Returns:
        L in nats, [batch]; T, [batch]. The mean per token is L / T.

    Raises:
        InputError: an item without an answer token.
    """
    lengths = _lengths(mask)
    return token_nll(logits, targets, mask).sum(-1), lengths


def packed_nll(logits: Tensor, targets: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """`answer_nll` of logits and targets that were reduced to the tokens inside the mask.

    Args:
        logits: [tokens, vocabulary], rows one after the other.
        targets: [tokens].
        mask: [batch, time], as many True as there are tokens.

    Returns:
        L in nats, [batch]; T, [batch].

    Raises:
        InputError: an item without an answer token.
    """
    lengths = _lengths(mask)
    values = -log_probabilities(logits).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    # Back into columns: summed there, the result has the same bytes as that of `answer_nll`.
    return values.new_zeros(mask.shape).masked_scatter(mask, values).sum(-1), lengths


def _lengths(mask: Tensor) -> Tensor:
    lengths = mask.sum(-1)
    if bool((lengths == 0).any()):
        rows = torch.nonzero(lengths == 0).flatten().tolist()
        raise InputError(f"batch rows {rows} have no answer token. Data validation rejects such rows.")
    return lengths
