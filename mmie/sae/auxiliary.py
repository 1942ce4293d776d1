"""AuxK: dead latents learn to reconstruct what the live ones missed.

Source: Gao et al. 2024 (arXiv 2406.04093), appendix A.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mmie.sae.jumprelu import JumpReLUSAE
from mmie.sae.topk import TopKSAE


@dataclass(frozen=True)
class DeadGradients:
    """Gradients of the dead latents' rows, each [dead, ...]."""

    w_dec: Tensor
    w_enc: Tensor
    b_enc: Tensor


def auxiliary_loss(u: Tensor, w_dec: Tensor, error: Tensor, dead: Tensor, weight: float) -> Tensor:
    """weight x share x squared distance of the dead latents' estimate from the error, over its variance.

    The width / 2 dead latents nearest to firing take part in each row; share is the number of dead
    latents over width / 2, at most 1. The error is a constant: nothing flows into the live latents.

    Args:
        u: pre-activations, [batch, latents].
        w_dec: decoder rows, [latents, width].
        error: rows minus their reconstruction, [batch, width].
        dead: latents that have not fired for long, [latents], bool.
        weight: factor of the loss.

    Returns:
        A scalar; 0 without dead latents or without variance in the error.
    """
    count, target = int(dead.sum()), error.detach()
    denominator = (target - target.mean(0)).square().sum()
    if count == 0 or weight == 0 or denominator == 0:
        return u.new_zeros(())
    estimate = _nearest(u[:, dead], target.shape[1]) @ w_dec[dead]
    return weight * _share(count, target.shape[1]) * (estimate - target).square().sum() / denominator


def auxiliary_gradients(
    sae: TopKSAE | JumpReLUSAE, error: Tensor, centred: Tensor, dead: Tensor, weight: float
) -> tuple[Tensor, DeadGradients | None]:
    """Value and gradients of `auxiliary_loss`: products with the dead rows alone.

    Args:
        sae: the autoencoder.
        error: rows minus their reconstruction, [batch, width].
        centred: rows minus `b_dec`, [batch, width].
        dead: latents that have not fired for long, [latents], bool.
        weight: factor of the loss.
    """
    count = int(dead.sum())
    nothing = error.new_zeros(())
    if count == 0 or weight == 0:
        return nothing, None
    denominator = (error - error.mean(0)).square().sum()
    if denominator == 0:
        return nothing, None
    w_dec = sae.w_dec[dead]
    codes = _nearest(functional.linear(centred, sae.w_enc[dead], sae.b_enc[dead]), error.shape[1])
    miss = codes @ w_dec - error
    scale = weight * _share(count, error.shape[1]) / denominator
    grad_out = 2 * scale * miss
    grad_code = (grad_out @ w_dec.T) * (codes > 0)
    gradients = DeadGradients(codes.T @ grad_out, grad_code.T @ centred, grad_code.sum(0))
    return scale * miss.square().sum(), gradients


def _share(count: int, width: int) -> float:
    return min(1.0, count / max(width // 2, 1))


def _nearest(u: Tensor, width: int) -> Tensor:
    """Positive parts of the width / 2 largest dead pre-activations of each row, 0 elsewhere."""
    most = max(width // 2, 1)
    if u.shape[1] <= most:
        return u.relu()
    values, indices = u.topk(most, dim=-1, sorted=False)
    return torch.zeros_like(u).scatter(-1, indices, values.relu())
