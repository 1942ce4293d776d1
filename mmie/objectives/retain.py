"""Retain losses: stay where the reference was."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mmie.objectives.masking import log_probabilities


def token_kl(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """KL(p0; p) at every position: it covers the mass of the reference p0.

    Args:
        logits: trained model, [..., vocabulary].
        reference_logits: frozen reference, same shape.

    Returns:
        Nats, float32, [...].
    """
    return kl_divergence(log_probabilities(logits), log_probabilities(reference_logits))


def kl_divergence(log_p: Tensor, log_p0: Tensor) -> Tensor:
    """`token_kl` of log-probabilities [..., vocabulary]; log_p0 carries no gradient."""
    # In place: at the peak of a step every copy of the distributions counts.
    return (log_p0 - log_p).mul_(log_p0.exp()).sum(-1)


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
    log_p0 = log_probabilities(reference_logits)
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
    return lumped_divergence(log_probabilities(logits), reference)


def lumped_divergence(log_p: Tensor, reference: TopTokens) -> Tensor:
    """`token_kl_cached` of log-probabilities [..., vocabulary]."""
    top = reference.log_probabilities
    divergence = (top.exp() * (top - log_p.gather(-1, reference.ids))).sum(-1)
    if reference.ids.shape[-1] == log_p.shape[-1]:
        return divergence
    # The log of the rest comes from its own logits: 1 - sum_K p would cancel in float32.
    log_rest = log_p.scatter(-1, reference.ids, -torch.inf).logsumexp(-1)
    r0 = reference.rest
    return divergence + torch.xlogy(r0, r0) - r0 * log_rest


def nll(nll_sum: Tensor, lengths: Tensor) -> Tensor:
    """Mean answer NLL of each item, L / T, [batch]."""
    return nll_sum / lengths


def token_jsd(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """Jensen-Shannon divergence of p and p0 at every position; at most log 2.

    Args:
        logits: trained model, [..., vocabulary].
        reference_logits: frozen reference, same shape.

    Returns:
        Nats, [...].

    Source: Singh et al. 2025 (arXiv 2509.02820), the retain term of JensUn.
    """
    return js_divergence(log_probabilities(logits), log_probabilities(reference_logits))


def js_divergence(log_p: Tensor, log_p0: Tensor) -> Tensor:
    """`token_jsd` of log-probabilities [..., vocabulary]."""
    middle = torch.logaddexp(log_p, log_p0) - math.log(2.0)
    return 0.5 * (log_p.exp() * (log_p - middle) + log_p0.exp() * (log_p0 - middle)).sum(-1)


def hidden_distance(hidden: Tensor, reference_hidden: Tensor) -> Tensor:
    """Squared distance of the residual stream from the reference's, divided by its width.

    Args:
        hidden: block output under the trained model, [..., width].
        reference_hidden: the same block's output under the reference, same shape.

    Returns:
        [...], in squared units of the stream.

    Source: Li et al. 2024 (arXiv 2403.03218), the retain term of RMU.
    """
    return (hidden.float() - reference_hidden.float()).square().mean(-1)
