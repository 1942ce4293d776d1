"""Membership: does a model treat a text as one it was trained on?

Four scores of one text, all signed so that higher means more like a member, and what is made of them by
comparing forget texts with real non-members. The reference attack needs no score of its own: it is the
difference of two models' `nll_sum`, formed where both are at hand (`reference_score`).
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

MIN_K_SHARE = 0.4
ZLIB_LEVEL = 6
_LEAST_SPREAD = 1e-6


def loss_score(nll_sum: float, n_tokens: float) -> float:
    """LOSS = -L/T, the mean token log-probability, nats. Range (-inf, 0].

    Higher: more like a member. Success on forget: the oracle's value. NaN without tokens.
    Source: Yeom et al. 2018 (arXiv 1709.01604).
    """
    return -nll_sum / n_tokens if n_tokens else math.nan


def zlib_score(nll_sum: float, n_tokens: float, answer: str) -> float:
    """ZLib = -(L/T) / bytes of the answer's UTF-8 text after zlib at level 6. Range (-inf, 0].

    Discounts texts that are predictable anyway. Lengths count bytes: compare within one script only.
    Source: Carlini et al. 2021 (arXiv 2012.07805).
    """
    return loss_score(nll_sum, n_tokens) / len(zlib.compress(answer.encode("utf-8"), ZLIB_LEVEL))


def min_k(nll: Tensor, mask: Tensor, share: float = MIN_K_SHARE) -> Tensor:
    """Min-K = mean of the lowest `share` of an answer's token log-probabilities, [batch], nats.

    At least one token counts. Range (-inf, 0]; NaN for an empty answer.

    Args:
        nll: -log p of each token, [batch, time].
        mask: True on answer tokens, [batch, time].

    Source: Shi et al. 2024 (arXiv 2310.16789).
    """
    return _mean_of_lowest(-nll, mask, share)


def min_k_plus_plus(logits: Tensor, target: Tensor, mask: Tensor, share: float = MIN_K_SHARE) -> Tensor:
    """Min-K++ = mean of the lowest `share` of standardised token log-probabilities, [batch].

    z_t = (log p_t - mu_t) / sigma_t, mu_t and sigma_t the mean and standard deviation of log p over the
    vocabulary at that position, under p itself. Where all likely tokens are equally likely sigma is 0,
    and so is z. Range (-inf, inf); NaN for an empty answer.

    Args:
        logits: aligned with the targets, [batch, time, vocabulary].
        target: token ids, [batch, time]; read on masked positions only.
        mask: True on answer tokens, [batch, time].

    Source: Zhang et al. 2024 (arXiv 2404.02936).
    """
    # Padding is left out before the softmax: it would cost as much as the answers.
    log_p = logits[mask].float().log_softmax(-1)
    p = log_p.exp()
    mean = (p * log_p).sum(-1)
    spread = (p * (log_p - mean[:, None]).square()).sum(-1).sqrt()
    own = log_p.gather(-1, target[mask][:, None]).squeeze(-1)
    standardised = torch.zeros(mask.shape, dtype=torch.float32, device=log_p.device)
    standardised[mask] = (own - mean) / spread.clamp(min=_LEAST_SPREAD)
    return _mean_of_lowest(standardised, mask, share)


def _mean_of_lowest(values: Tensor, mask: Tensor, share: float) -> Tensor:
    ordered = torch.where(mask, values, torch.inf).sort(-1).values
    lengths = mask.sum(-1)
    counted = (lengths * share).floor().clamp(min=1)
    lowest = torch.arange(mask.shape[1], device=mask.device)[None] < counted[:, None]
    mean = torch.where(lowest, ordered, 0.0).sum(-1) / counted
    return torch.where(lengths > 0, mean, torch.nan)


def reference_score(nll_sum: ArrayLike, reference_nll_sum: ArrayLike) -> np.ndarray:
    """Reference attack = L_reference - L, nats: how much likelier than for a model without the text.

    Range (-inf, inf); higher: more like a member; 0 for the reference itself. Formed from the stored
    `nll_sum` of the arm and of the reference oracle on the same items.
    Source: Carlini et al. 2022 (arXiv 2112.03570), without shadow models.
    """
    return np.asarray(reference_nll_sum, dtype=float) - np.asarray(nll_sum, dtype=float)


def membership_auc(forget: ArrayLike, holdout: ArrayLike) -> float:
    """AUC = probability that a forget text scores above a non-member, ties counted half.

    Range [0, 1]; success: the oracle's value, not 0.5. NaN if either side is empty or holds a value
    that is not finite.

    Args:
        forget: one score a forget item, higher for members.
        holdout: the same for real non-members of the same language, script and kind. Retained items
            are members and must not stand in.
    """
    from mmie.activations.probes import auc

    members, others = np.asarray(forget, dtype=float), np.asarray(holdout, dtype=float)
    scores = np.concatenate([members, others])
    if not np.isfinite(scores).all():
        return math.nan
    return auc(scores, np.arange(len(scores)) < len(members))


def membership_gap(auc_arm: float, auc_oracle: float) -> float:
    """AUC of the arm - AUC of the oracle. Range [-1, 1]; success 0; above: still recognised.

    Below 0 the forget texts stand out as unlikelier than for a model that never saw them.
    """
    return auc_arm - auc_oracle


def over_unlearned(auc_arm: float, *, margin: float = 0.05) -> bool:
    """Whether forget texts are pushed below chance: AUC under 0.5 - margin. A flag, never a reward."""
    return auc_arm < 0.5 - margin


def privacy_ratio(auc_arm: float, auc_oracle: float) -> float:
    """s_MIA, form A = clip(1 - |AUC_u - AUC_o| / AUC_o, 0, 1). Success 1; 0 once AUC_u >= 2 AUC_o."""
    if math.isnan(auc_arm) or math.isnan(auc_oracle) or auc_oracle == 0:
        return math.nan
    return min(1.0, max(0.0, 1.0 - abs(auc_arm - auc_oracle) / auc_oracle))


def privacy_exponential(auc_arm: float, auc_oracle: float) -> float:
    """s_MIA, form B = exp(-3.84 |AUC_u - AUC_o|). Range (0, 1], success 1. Incompatible with form A."""
    return math.exp(-3.84 * abs(auc_arm - auc_oracle))
