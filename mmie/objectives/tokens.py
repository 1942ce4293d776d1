"""Forget losses of single answer tokens.

All take logits [tokens, vocabulary] and target ids [tokens] of answer tokens alone: prompts, pads and
labels such as -100 were left out by the mask before, so none can be used as an index.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmie.objectives.masking import log_probabilities


def inverted_hinge(logits: Tensor, targets: Tensor) -> Tensor:
    """1 + p(y) - max over v != y of p(v): 2 for a certain answer, 0 for another certain token.

    Returns:
        [tokens], in [0, 2].

    Source: Cha et al. 2024 (arXiv 2408.06621).
    """
    probabilities = log_probabilities(logits).exp()
    others = probabilities.scatter(-1, targets.unsqueeze(-1), -1.0).amax(-1)
    return 1.0 + _at(probabilities, targets) - others


def max_entropy(logits: Tensor) -> Tensor:
    """KL(U; p) from the uniform distribution; unbounded above.

    Returns:
        Nats, [tokens]; 0 for uniform p.

    Source: Yuan et al. 2024 (arXiv 2410.08109).
    """
    log_p = log_probabilities(logits)
    return -math.log(log_p.shape[-1]) - log_p.mean(-1)


def max_entropy_reverse(logits: Tensor) -> Tensor:
    """KL(p; U) = log V - H(p); at most log V.

    Returns:
        Nats, [tokens]; 0 for uniform p.
    """
    log_p = log_probabilities(logits)
    return math.log(log_p.shape[-1]) + (log_p.exp() * log_p).sum(-1)


def weighted_ascent(logits: Tensor, targets: Tensor, beta: float) -> Tensor:
    """WGA: -p(y)^beta (-log p(y)), the weight without gradient.

    What is still remembered is pushed most; a forgotten token is left alone.

    Returns:
        [tokens].

    Source: Wang et al. 2025 (arXiv 2502.19301).
    """
    log_p = _at(log_probabilities(logits), targets)
    return log_p.detach().exp() ** beta * log_p


def satimp(logits: Tensor, targets: Tensor, saturation_power: float, importance_power: float) -> Tensor:
    """-p(y)^b1 (1 - p(y))^b2 (-log p(y)), the weights without gradient.

    Args:
        logits: [tokens, vocabulary].
        targets: [tokens].
        saturation_power: b1, turns away from what is forgotten already.
        importance_power: b2, turns away from what is certain.

    Returns:
        [tokens].

    Source: Yang et al. 2025 (arXiv 2505.11953).
    """
    log_p = _at(log_probabilities(logits), targets)
    p = log_p.detach().exp()
    return p**saturation_power * (1.0 - p) ** importance_power * log_p


def cross_entropy_unlearning(logits: Tensor, targets: Tensor) -> Tensor:
    """CE-U: cross-entropy to the model's own distribution without the target token.

    The teacher is softmax(z with z_y = -inf), without gradient. The first token of an answer is left
    out by the caller, as in the paper.

    Returns:
        Nats, [tokens].

    Source: Yang 2025 (arXiv 2503.01224).
    """
    without = logits.detach().scatter(-1, targets.unsqueeze(-1), -torch.inf)
    return _cross_entropy(log_probabilities(without).exp(), logits)


def undial(logits: Tensor, targets: Tensor, reference_logits: Tensor, beta: float) -> Tensor:
    """Self-distillation from the reference with the target's logit lowered by beta.

    Args:
        logits: [tokens, vocabulary].
        targets: [tokens].
        reference_logits: of the frozen reference, [tokens, vocabulary].
        beta: how far the logit of the target is lowered.

    Returns:
        Nats, [tokens].

    Source: Dong et al. 2024 (arXiv 2402.10052).
    """
    index = targets.unsqueeze(-1)
    lowered = reference_logits.scatter_add(
        -1, index, torch.full_like(index, -beta, dtype=reference_logits.dtype)
    )
    return _cross_entropy(log_probabilities(lowered).exp(), logits)


def jensun(logits: Tensor, targets: Tensor) -> Tensor:
    """Jensen-Shannon divergence of p and the one-hot distribution of a refusal's token.

    With r = p(target) it is log 2 + (r log r - (1 + r) log(1 + r)) / 2.

    Returns:
        Nats, [tokens], in [0, log 2].

    Source: Singh et al. 2025 (arXiv 2509.02820).
    """
    log_r = _at(log_probabilities(logits), targets)
    r = log_r.exp()
    return math.log(2.0) + 0.5 * (r * log_r - (1.0 + r) * torch.log1p(r))


def logit_spread(logits: Tensor) -> Tensor:
    """(max z - mean z)^2, the primal term of PDU: 0 when all logits are equal.

    Returns:
        Squared logits, [tokens].

    Source: Entesari et al. 2025 (arXiv 2506.05314).
    """
    z = logits if logits.dtype == torch.float64 else logits.float()
    return (z.amax(-1) - z.mean(-1)).square()


def _at(values: Tensor, targets: Tensor) -> Tensor:
    return values.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def _cross_entropy(teacher: Tensor, logits: Tensor) -> Tensor:
    return -(teacher * log_probabilities(logits)).sum(-1)
