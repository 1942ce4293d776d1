"""Retain losses: stay where the reference was."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def token_kl(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """KL(p0; p) at every position: it covers the mass of the reference p0.

    Args:
        logits: trained model, [..., vocabulary].
        reference_logits: frozen reference, same shape.

    Returns:
        Nats, float32, [...].
    """
    log_p = logits.float().log_softmax(-1)
    log_p0 = reference_logits.float().log_softmax(-1)
    return (log_p0.exp() * (log_p0 - log_p)).sum(-1)


def masked_kl(logits: Tensor, reference_logits: Tensor, mask: Tensor) -> Tensor:
    """Mean of KL(p0; p) over the masked tokens of the batch.

    Neither prompt nor padding enters, and the divisor is the number of tokens: dividing by the batch
    size instead would make the term T times the forget term.

    Args:
        logits: [batch, time, vocabulary].
        reference_logits: same shape.
        mask: True on answer tokens, [batch, time].

    Returns:
        A scalar, nats.
    """
    return (token_kl(logits, reference_logits) * mask).sum() / mask.sum()


@dataclass(frozen=True)
class TopTokens:
    """The reference distribution, reduced to its most likely tokens and the rest in one lump."""

    ids: Tensor
    """[..., k]."""
    log_probabilities: Tensor
    """log p0 of these tokens, [..., k]."""
    rest: Tensor
    """Probability of all others, [...]."""


def top_tokens(reference_logits: Tensor, k: int = 64) -> TopTokens:
    """Reduce reference logits [..., vocabulary] to what `token_kl_cached` needs."""
    log_p0 = reference_logits.float().log_softmax(-1)
    best = log_p0.topk(min(k, log_p0.shape[-1]), dim=-1)
    rest = log_p0.exp().scatter(-1, best.indices, 0.0).sum(-1)
    return TopTokens(best.indices, best.values, rest)


def token_kl_cached(logits: Tensor, reference: TopTokens) -> Tensor:
    """KL(p0; p) with all tokens outside the top k as one: sum_K p0 log(p0/p) + r0 log(r0/r).

    A lower bound of `token_kl`, equal to it when k is the vocabulary.

    Args:
        logits: [..., vocabulary].
        reference: of the same positions.

    Returns:
        Nats, float32, [...].
    """
    log_p = logits.float().log_softmax(-1)
    top = reference.log_probabilities
    divergence = (top.exp() * (top - log_p.gather(-1, reference.ids))).sum(-1)
    if reference.ids.shape[-1] == logits.shape[-1]:
        return divergence
    # The log of the rest comes from its own logits: 1 - sum_K p would cancel in float32.
    log_rest = log_p.scatter(-1, reference.ids, -torch.inf).logsumexp(-1)
    r0 = reference.rest
    return divergence + torch.xlogy(r0, r0) - r0 * log_rest


def nll(nll_sum: Tensor, lengths: Tensor) -> Tensor:
    """Mean answer NLL of each item, L / T, [batch]."""
    return nll_sum / lengths
