"""Losses of the autoencoders whose sparsity is learnt: JumpReLU and Gated. Dense, by autograd.

Early in training most of their latents fire, so sparse sums would not pay.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmie.sae.autoencoder import SparseAutoencoder
from mmie.sae.auxiliary import auxiliary_loss
from mmie.sae.gated import GatedSAE, gate_penalty
from mmie.sae.gradients import Gradients
from mmie.sae.jumprelu import JumpReLUSAE, firing_count, jump

BANDWIDTH = 0.1
"""Width of the window in which thresholds feel a gradient, for rows of norm sqrt(width)."""


def jumprelu_loss(
    sae: JumpReLUSAE, x: Tensor, variance: float, dead: Tensor, weight: float, sparsity: float
) -> tuple[Tensor, Tensor]:
    """mean norm(e)^2 / V + sparsity (mean L0 / k - 1)^2 + auxiliary loss, and codes [batch, latents].

    The penalty in its form with a target; straight-through gradients for the thresholds. Source:
    Rajamanoharan et al. 2024 (arXiv 2407.14435), section 3 and appendix.

    Args:
        sae: the autoencoder.
        x: rows, [batch, width].
        variance: mean squared distance of the training rows from their mean, one constant.
        dead: latents that have not fired for long, [latents], bool.
        weight: of the auxiliary loss.
        sparsity: of the penalty on the number of latents that fire.
    """
    u = sae.pre_activations(x)
    codes = jump(u, sae.threshold, BANDWIDTH)
    error = x - (codes @ sae.w_dec + sae.b_dec)
    count = firing_count(u, sae.threshold, BANDWIDTH).sum(-1).mean()
    penalty = sparsity * (count / sae.k - 1).square()
    main = error.square().sum(-1).mean() / variance
    return main + penalty + auxiliary_loss(u, sae.w_dec, error, dead, weight), codes


def gated_loss(
    sae: GatedSAE, x: Tensor, variance: float, dead: Tensor, weight: float, sparsity: float
) -> tuple[Tensor, Tensor]:
    """Mean of norm(e)^2 + sparsity sum relu(p) + norm(x - x^_gate)^2, over V, and codes.

    x^_gate decodes relu(p) with a frozen decoder, so that the gate learns to reconstruct; plus the
    auxiliary loss. Arguments as `jumprelu_loss`; `sparsity` weighs the gate values.

    Source: Rajamanoharan et al. 2024 (arXiv 2404.16014), eq. 8.
    """
    gate = sae.pre_activations(x)
    codes = sae.codes_from(gate)
    error = x - (codes @ sae.w_dec + sae.b_dec)
    by_gate = x - (gate.relu() @ sae.w_dec.detach() + sae.b_dec.detach())
    squares = error.square().sum(-1).mean() + by_gate.square().sum(-1).mean()
    main = (squares + sparsity * gate_penalty(gate)) / variance
    return main + auxiliary_loss(gate, sae.w_dec, error, dead, weight), codes


def autograd_gradients(sae: SparseAutoencoder, value: Tensor, codes: Tensor) -> Gradients:
    """Gradients of a loss [scalar] with the codes [batch, latents] that it used."""
    names, parameters = zip(*sae.named_parameters(), strict=True)
    found = torch.autograd.grad(value, parameters)
    firing = codes.detach() > 0
    return Gradients(
        loss=value.detach(),
        auxiliary=value.detach().new_zeros(()),
        parameters=dict(zip(names, found, strict=True)),
        fired=firing.any(0),
        firings=float(firing.sum()) / len(codes),
    )
