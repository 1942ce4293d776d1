"""The TopK sparse autoencoder: exactly k latents may fire for a token."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmie.sae.autoencoder import SparseAutoencoder


class TopKSAE(SparseAutoencoder):
    """a = relu of the k largest u, u = W_enc (x - b_dec) + b_enc; 0 elsewhere.

    A latent that is among the k largest with a value of 0 or less does not fire. Decoder rows have unit
    norm.

    Source: Gao et al. 2024 (arXiv 2406.04093).
    """

    architecture: ClassVar[str] = "topk"
    format: ClassVar[str] = "topk"

    def __init__(self, width: int, latents: int, k: int) -> None:
        super().__init__(width, latents, k)
        self.b_enc = nn.Parameter(torch.zeros(latents))

    def encoder_biases(self) -> list[Tensor]:
        return [self.b_enc]

    def pre_activations(self, x: Tensor) -> Tensor:
        """u = W_enc (x - b_dec) + b_enc, [..., latents]."""
        return functional.linear(x - self.b_dec, self.w_enc, self.b_enc)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The k codes of every row and the latents they belong to, each [..., k].

        Codes are at least 0; those of 0 are selected but do not fire.
        """
        values, indices = self.pre_activations(x).topk(self.k, dim=-1, sorted=False)
        return values.relu(), indices

    def codes(self, x: Tensor) -> Tensor:
        values, indices = self.encode(x)
        return values.new_zeros(*x.shape[:-1], self.latents).scatter_(-1, indices, values)
