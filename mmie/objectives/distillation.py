"""Adaptive distillation: trust the teacher where it is sure of the answer, else the answer itself."""

from __future__ import annotations

import torch
from torch import Tensor

from mmie.objectives.masking import log_probabilities
from mmie.objectives.retain import token_kl


def adaptive_distillation(
    logits: Tensor, targets: Tensor, reference_logits: Tensor, temperature: float = 1.0
) -> Tensor:
    """p0(y) KL_tau(p0; p) + (1 - p0(y)) (-log p(y)) of single answer tokens.

    KL_tau is the divergence at temperature tau, times tau^2. p0(y) is the teacher's probability, at
    temperature 1, of the very token that the logits predict; it has no gradient.

    Args:
        logits: trained model, [tokens, vocabulary].
        targets: answer tokens, [tokens].
        reference_logits: frozen reference, [tokens, vocabulary].
        temperature: tau.

    Returns:
        Nats, [tokens].

    Source: Choi et al. 2024 (arXiv 2406.12354).
    """
    index = targets.unsqueeze(-1)
    with torch.no_grad():
        sure = log_probabilities(reference_logits).gather(-1, index).squeeze(-1).exp()
    divergence = token_kl(logits / temperature, reference_logits / temperature) * temperature**2
    own = -log_probabilities(logits).gather(-1, index).squeeze(-1)
    return sure * divergence + (1.0 - sure) * own
