"""Decoder rows that do not repeat one another, without a matrix of latents by latents."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 4096
"""Rows of a block; memory beyond the gradient is width^2 and a block of rows."""


def decoder_overlap(w_dec: Tensor) -> Tensor:
    """Mean squared inner product of two different decoder rows, a scalar.

    sum over i, j of <w_i, w_j>^2 is the squared norm of W'W as well as of WW', and the first is only
    [width, width].

    Args:
        w_dec: [latents, width], at least two rows.
    """
    whole = _second_moment(w_dec).square().sum()
    own = w_dec.square().sum(1).square().sum()
    return (whole - own) / (len(w_dec) * (len(w_dec) - 1))


@torch.no_grad()
def decoder_overlap_gradient(w_dec: Tensor) -> Tensor:
    """Gradient of `decoder_overlap`, [latents, width]."""
    scale = 4 / (len(w_dec) * (len(w_dec) - 1))
    moment = _second_moment(w_dec)
    gradient = torch.empty_like(w_dec)
    for start in range(0, len(w_dec), BLOCK):
        rows = w_dec[start : start + BLOCK]
        own = rows.square().sum(1, keepdim=True) * rows
        gradient[start : start + BLOCK] = scale * (rows @ moment - own)
    return gradient


def _second_moment(w_dec: Tensor) -> Tensor:
    """W'W, [width, width]; a product of two thin matrices needs no blocks."""
    return w_dec.T @ w_dec
