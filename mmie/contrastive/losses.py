"""Contrastive losses of one triple, from cosines; all are averaged over triples by the caller."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

TEMPERATURE = 0.07
"""tau."""


def linear(
    positive: Tensor,
    negative: Tensor,
    *,
    temperature: float = TEMPERATURE,
    attraction: float = 0.5,
    repulsion: float = 0.5,
) -> Tensor:
    """Linear in both cosines: its gradient is the same however far apart they are, and it is often negative.

    Args:
        positive: cosine s_p of anchor and counterfactual, [triples].
        negative: cosine s_x of anchor and attack, [triples].
        temperature: tau.
        attraction: weight of -s_p / tau.
        repulsion: weight of s_x / tau.

    Returns:
        [triples], within (attraction + repulsion) / tau of 0.
    """
    return (repulsion * negative - attraction * positive) / temperature


def infonce(positive: Tensor, negatives: Tensor, *, temperature: float = TEMPERATURE) -> Tensor:
    """-log(e^(s_p/tau) / (e^(s_p/tau) + sum_n e^(s_n/tau))).

    Args:
        positive: s_p, [triples].
        negatives: cosines with every negative of a triple, [triples, negatives].
        temperature: tau.

    Returns:
        Nats, [triples], at least 0; log(1 + N) for N negatives as close as the positive.

    Source: van den Oord et al. 2018 (arXiv 1807.03748).
    """
    # softplus keeps the digits of values that 1 + e^x would round to log 1.
    return softplus(torch.logsumexp(negatives / temperature, dim=-1) - positive / temperature, threshold=1e9)


def triplet(positive: Tensor, negative: Tensor, *, margin: float = 1.0) -> Tensor:
    """relu(margin + (1 - s_p) - (1 - s_x)): 0 once the attack is further away by the margin.

    Args:
        positive: s_p, [triples].
        negative: s_x, [triples].
        margin: in cosines.

    Returns:
        [triples], in [0, margin + 2].
    """
    return (margin - positive + negative).clamp(min=0.0)
