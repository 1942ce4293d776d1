"""Gradients of the TopK loss without autograd: sums over the k firing latents, not over all of them.

`loss` is the definition, for autograd; `step_gradients` is the same numbers by sparse sums, two to
three times faster on a CPU. A test holds them equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mmie.sae.topk import TopKSAE


@dataclass(frozen=True)
class Gradients:
    """Loss of a batch and its gradients, in the shapes of the parameters."""

    loss: Tensor
    auxiliary: Tensor
    w_enc: Tensor
    b_enc: Tensor
    w_dec: Tensor
    b_dec: Tensor
    fired: Tensor
    """Latents with a positive code in the batch, [latents], bool."""


def loss(sae: TopKSAE, x: Tensor, variance: float, dead: Tensor, weight: float) -> Tensor:
    """Mean squared error over the data's variance, plus the auxiliary loss of dead latents.

    Args:
        sae: the autoencoder.
        x: rows, [batch, width].
        variance: mean squared distance of the training rows from their mean, one constant.
        dead: latents that have not fired for long, [latents], bool.
        weight: of the auxiliary loss.
    """
    u = sae.pre_activations(x)
    values, indices = u.topk(sae.k, dim=-1, sorted=False)
    error = x - sae.decode(values.relu(), indices)
    main = error.square().sum(-1).mean() / variance
    chosen = _dead_choice(u, dead, sae.width)
    if chosen is None:
        return main
    values, indices, share = chosen
    target = error.detach()
    denominator = (target - target.mean(0)).square().sum()
    if denominator == 0:
        return main
    estimate = sae.decode(values.relu(), indices) - sae.b_dec
    return main + weight * share * (estimate - target).square().sum() / denominator


@torch.no_grad()
def step_gradients(sae: TopKSAE, x: Tensor, variance: float, dead: Tensor, weight: float) -> Gradients:
    """Value and gradients of `loss`; arguments as there."""
    centred = x - sae.b_dec
    u = torch.addmm(sae.b_enc, centred, sae.w_enc.T)
    values, indices = u.topk(sae.k, dim=-1, sorted=False)
    codes = values.relu()
    error = x - sae.decode(codes, indices)
    main = error.square().sum(-1).mean() / variance
    grad_out = error * (-2 / (len(x) * variance))
    grad_code = _code_gradient(grad_out, sae.w_dec, indices) * (values > 0)
    w_dec, w_enc, b_enc = _weight_gradients(sae.latents, indices, codes, grad_out, grad_code, centred)
    auxiliary = main.new_zeros(())
    chosen = _dead_choice(u, dead, sae.width)
    if chosen is not None:
        auxiliary, extra = _auxiliary_gradients(sae, error, centred, chosen, weight)
        w_dec, w_enc, b_enc = (a + b for a, b in zip((w_dec, w_enc, b_enc), extra, strict=True))
    fired = torch.zeros(sae.latents, dtype=torch.bool, device=x.device)
    fired[indices[values > 0]] = True
    return Gradients(
        loss=main + auxiliary,
        auxiliary=auxiliary,
        w_enc=w_enc,
        b_enc=b_enc,
        w_dec=w_dec,
        b_dec=grad_out.sum(0) - b_enc @ sae.w_enc,
        fired=fired,
    )


def _dead_choice(u: Tensor, dead: Tensor, width: int) -> tuple[Tensor, Tensor, float] | None:
    """The dead latents that come nearest to firing, [batch, k_a] twice, and how much they count."""
    alive = ~dead
    count = int(dead.sum())
    if count == 0:
        return None
    most = max(width // 2, 1)
    values, indices = u.masked_fill(alive, -torch.inf).topk(min(most, count), dim=-1, sorted=False)
    return values, indices, min(1.0, count / most)


def _auxiliary_gradients(
    sae: TopKSAE,
    error: Tensor,
    centred: Tensor,
    chosen: tuple[Tensor, Tensor, float],
    weight: float,
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Dead latents learn to reconstruct what the live ones missed; the miss itself is a constant."""
    values, indices, share = chosen
    denominator = (error - error.mean(0)).square().sum()
    if denominator == 0:
        nothing = tuple(torch.zeros_like(weights) for weights in (sae.w_dec, sae.w_enc, sae.b_enc))
        return denominator, (nothing[0], nothing[1], nothing[2])
    codes = values.relu()
    estimate = functional.embedding_bag(indices, sae.w_dec, per_sample_weights=codes, mode="sum")
    scale = weight * share / denominator
    auxiliary = scale * (estimate - error).square().sum()
    grad_out = 2 * scale * (estimate - error)
    grad_code = _code_gradient(grad_out, sae.w_dec, indices) * (values > 0)
    return auxiliary, _weight_gradients(sae.latents, indices, codes, grad_out, grad_code, centred)


def _code_gradient(grad_out: Tensor, w_dec: Tensor, indices: Tensor) -> Tensor:
    """<w_j, grad of row> for the latents of each row, [batch, k]; chunks bound the memory."""
    if grad_out.device.type == "cpu" and hasattr(
        torch.ops.aten, "_embedding_bag_per_sample_weights_backward"
    ):
        return _code_gradient_fused(grad_out, w_dec, indices)
    return _code_gradient_gathered(grad_out, w_dec, indices)


def _code_gradient_fused(grad_out: Tensor, w_dec: Tensor, indices: Tensor) -> Tensor:
    batch, k = indices.shape
    offsets = torch.arange(0, batch * k, k, device=indices.device)
    bag = torch.arange(batch, device=indices.device).repeat_interleave(k)
    flat: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        grad_out.contiguous(), w_dec.detach(), indices.reshape(-1), offsets, bag, 0, -1
    )
    return flat.reshape(batch, k)


def _code_gradient_gathered(grad_out: Tensor, w_dec: Tensor, indices: Tensor) -> Tensor:
    parts = [
        torch.bmm(w_dec[some], grad.unsqueeze(-1)).squeeze(-1)
        for some, grad in zip(indices.split(256), grad_out.split(256), strict=True)
    ]
    return torch.cat(parts)


def _weight_gradients(
    latents: int,
    indices: Tensor,
    codes: Tensor,
    grad_out: Tensor,
    grad_code: Tensor,
    centred: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of decoder, encoder and encoder bias: sums over the rows where a latent is selected.

    One sort serves both weight matrices, since both are touched at the same places.
    """
    flat = indices.reshape(-1)
    order = flat.argsort(stable=True)
    rows = order // indices.shape[1]
    offsets = torch.searchsorted(flat[order], torch.arange(latents, device=flat.device))

    def summed(source: Tensor, weights: Tensor) -> Tensor:
        return functional.embedding_bag(
            rows, source, offsets, per_sample_weights=weights.reshape(-1)[order], mode="sum"
        )

    b_enc = torch.zeros(latents, dtype=grad_code.dtype, device=flat.device)
    b_enc.index_add_(0, flat, grad_code.reshape(-1))
    return summed(grad_out, codes), summed(centred, grad_code), b_enc
