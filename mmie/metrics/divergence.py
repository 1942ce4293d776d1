"""How far a model's next-token distribution is from another's; the direction stands in the name.

All take logits aligned with their targets, [batch, time, vocabulary], and a mask that is True on answer
tokens. Means are over tokens, so a text that is written twice counts as one written once.
"""

from __future__ import annotations

from torch import Tensor

from mmie.metrics.likelihood import summed
from mmie.objectives.retain import token_kl


def kl_from_base(logits: Tensor, base_logits: Tensor, mask: Tensor) -> Tensor:
    """KL(p_base; p) = sum_v p_base log(p_base / p), mean over an answer's tokens, [batch].

    Nats per token, range [0, inf), hold; 0 for the base by construction, which is no evidence. Covers
    what the base finds likely: it grows where the model drops something. NaN for an empty answer.
    """
    return summed(token_kl(logits, base_logits), mask) / mask.sum(-1)


def kl_to_base(logits: Tensor, base_logits: Tensor, mask: Tensor) -> Tensor:
    """KL(p; p_base) = sum_v p log(p / p_base), mean over an answer's tokens, [batch].

    Nats per token, range [0, inf), hold; 0 for the base by construction. Covers what the model finds
    likely: it grows where the model adds something. NaN for an empty answer.
    """
    return summed(token_kl(base_logits, logits), mask) / mask.sum(-1)
