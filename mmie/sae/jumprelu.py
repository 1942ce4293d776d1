"""Autoencoders whose latents fire above a threshold: JumpReLU, BatchTopK, Matryoshka."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmie.errors import InputError
from mmie.sae.autoencoder import SparseAutoencoder

PREFIXES = (0.0625, 0.125, 0.25, 0.5, 1.0)
"""Default widths of a Matryoshka autoencoder, as shares of the latents."""


class JumpReLUSAE(SparseAutoencoder):
    """a_j = u_j where u_j > theta_j, else 0; u = W_enc (x - b_dec) + b_enc, theta >= 0.

    Source: Rajamanoharan et al. 2024 (arXiv 2407.14435).
    """

    architecture: ClassVar[str] = "jumprelu"
    format: ClassVar[str] = "jumprelu"

    def __init__(self, width: int, latents: int, k: int) -> None:
        super().__init__(width, latents, k)
        self.b_enc = nn.Parameter(torch.zeros(latents))
        self.threshold = nn.Parameter(torch.zeros(latents))

    def encoder_biases(self) -> list[Tensor]:
        return [self.b_enc, self.threshold]

    def pre_activations(self, x: Tensor) -> Tensor:
        """u = W_enc (x - b_dec) + b_enc, [..., latents]."""
        return functional.linear(x - self.b_dec, self.w_enc, self.b_enc)

    def codes(self, x: Tensor) -> Tensor:
        return jump(self.pre_activations(x), self.threshold, 1.0).relu()

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> float:
        """Set all thresholds to the value at which k latents fire per row of `x` [rows, width] on average.

        Returns:
            The threshold.
        """
        kept = [
            self.pre_activations(part).topk(min(8 * self.k, self.latents), dim=-1).values.flatten()
            for part in x.split(1024)
        ]
        values = torch.cat(kept)
        rank = min(self.k * len(x) + 1, len(values))
        theta = max(0.0, float(values.topk(rank, sorted=True).values[-1]))
        self.threshold.fill_(theta)
        return theta


class BatchTopKSAE(JumpReLUSAE):
    """In training the k x rows largest u of a batch fire; afterwards those above one threshold.

    The threshold is calibrated after training (`calibrate`): in-batch selection would let a row's codes
    depend on the other rows.

    Source: Bussmann et al. 2024 (arXiv 2412.06410).
    """

    architecture: ClassVar[str] = "batchtopk"


class MatryoshkaSAE(BatchTopKSAE):
    """BatchTopK whose first m_g latents reconstruct on their own, for nested prefixes m_1 < ... < M.

    Args:
        width: dimension of the residual stream.
        latents: number of latents.
        k: latents that fire per token, on average.
        prefixes: nested widths as shares of the latents, rising, the last 1.

    Source: Bussmann et al. 2025 (arXiv 2503.17547).
    """

    architecture: ClassVar[str] = "matryoshka"

    def __init__(self, width: int, latents: int, k: int, prefixes: Sequence[float] = PREFIXES) -> None:
        super().__init__(width, latents, k)
        self.prefixes = [round(share * latents) for share in prefixes]
        rising = all(a < b for a, b in pairwise([0, *self.prefixes]))
        if not prefixes or prefixes[-1] != 1 or not rising:
            raise InputError(
                f"sae.prefixes: {list(prefixes)} of {latents} latents. Give rising shares of at least one "
                "latent each that end in 1."
            )


def jump(u: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """u where it exceeds its threshold, else 0, [..., latents].

    Gradient to u: 1[u > theta]. Gradient to theta: -(theta / eps) K((u - theta) / eps), with K the
    rectangle of width 1 and eps the bandwidth; a straight-through estimate.
    """
    result: Tensor = _Jump.apply(u, threshold, bandwidth)
    return result


def firing_count(u: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """1 where u exceeds its threshold, [..., latents]; gradient to theta -(1 / eps) K((u - theta) / eps)."""
    result: Tensor = _Step.apply(u, threshold, bandwidth)
    return result


def _window(u: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    return ((u - threshold).abs() < bandwidth / 2).to(u.dtype)


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(u, threshold)
        ctx.bandwidth = bandwidth
        return u * (u > threshold)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        u, threshold = ctx.saved_tensors
        near = _window(u, threshold, ctx.bandwidth) * grads[0]
        pull = -(threshold / ctx.bandwidth) * near.reshape(-1, u.shape[-1]).sum(0)
        return grads[0] * (u > threshold), pull, None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(u, threshold)
        ctx.bandwidth = bandwidth
        return (u > threshold).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        u, threshold = ctx.saved_tensors
        near = _window(u, threshold, ctx.bandwidth) * grads[0]
        return None, -near.reshape(-1, u.shape[-1]).sum(0) / ctx.bandwidth, None
