"""The TopK sparse autoencoder: exactly k latents may fire for a token."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmie.errors import InputError


class TopKSAE(nn.Module):
    """x^ = sum_j a_j w_j + b_dec, with a = relu of the k largest W_enc (x - b_dec) + b_enc.

    A latent fires when its code is positive; one that is among the k largest with a value of 0 or less
    does not. Decoder rows have unit norm. Membership depends on a row's own values only, never on the
    batch.

    Args:
        width: dimension d of the residual stream.
        latents: number M of latents.
        k: latents that may fire for a token.

    Source: Gao et al. 2024 (arXiv 2406.04093).
    """

    def __init__(self, width: int, latents: int, k: int) -> None:
        super().__init__()
        if not 1 <= k <= latents:
            raise InputError(f"sae.k: {k} of {latents} latents cannot fire. Choose 1 to {latents}.")
        self.width, self.latents, self.k = width, latents, k
        self.w_enc = nn.Parameter(torch.zeros(latents, width))
        self.b_enc = nn.Parameter(torch.zeros(latents))
        self.w_dec = nn.Parameter(torch.zeros(latents, width))
        self.b_dec = nn.Parameter(torch.zeros(width))

    @torch.no_grad()
    def initialise(self, mean: Tensor, generator: torch.Generator) -> None:
        """Random unit decoder rows, tied encoder, decoder bias at the data's mean [width].

        Centring the input is what keeps most latents alive from the start (arXiv 2605.31518).
        """
        rows = torch.randn(self.latents, self.width, generator=generator)
        self.w_dec.copy_(functional.normalize(rows, dim=1))
        self.w_enc.copy_(self.w_dec)
        self.b_enc.zero_()
        self.b_dec.copy_(mean)

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
        """Codes of all latents, dense, [..., latents]."""
        values, indices = self.encode(x)
        return values.new_zeros(*x.shape[:-1], self.latents).scatter_(-1, indices, values)

    def codes_of(self, x: Tensor, features: Tensor) -> Tensor:
        """Codes of some latents under the full encoder, [..., len(features)]."""
        return self.codes(x)[..., features]

    def decode(self, values: Tensor, indices: Tensor) -> Tensor:
        """Reconstruction from sparse codes, [..., width]."""
        flat = functional.embedding_bag(
            indices.reshape(-1, indices.shape[-1]),
            self.w_dec,
            per_sample_weights=values.reshape(-1, values.shape[-1]),
            mode="sum",
        )
        return flat.reshape(*indices.shape[:-1], self.width) + self.b_dec

    def decoder_rows(self, features: Tensor) -> Tensor:
        """The directions that latents write, [len(features), width]."""
        return self.w_dec[features]

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction of rows, [..., width]."""
        return self.decode(*self.encode(x))

    @torch.no_grad()
    def fold_scale(self, scale: float) -> None:
        """Turn an autoencoder of `scale * x` into one of `x`; latents selected stay the same."""
        self.b_enc.div_(scale)
        self.b_dec.div_(scale)
