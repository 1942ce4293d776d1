"""What every sparse autoencoder shares: an encoder, unit decoder rows, and sparse decoding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import deepcopy
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmie.errors import InputError
from mmie.models.blocks import block_device, find_blocks


def at_block(sae: SparseAutoencoder, model: nn.Module, layer: int) -> SparseAutoencoder:
    """The autoencoder on the device of a block of a model: itself where it is there, else a copy."""
    device = block_device(find_blocks(model)[layer])
    return sae if sae.b_dec.device == device else deepcopy(sae).to(device)


class SparseAutoencoder(nn.Module, ABC):
    """x^ = sum_j a_j w_j + b_dec, with codes a >= 0 of which few are positive.

    A latent fires when its code is positive. Which latents fire depends on a row's own values only,
    never on the batch.

    Args:
        width: dimension d of the residual stream.
        latents: number M of latents.
        k: latents that fire for a token: exactly at most k (TopK), on average (all others).
    """

    architecture: ClassVar[str]
    """Name in `sae.architecture`."""
    format: ClassVar[str]
    """Name of the inference rule in SAELens' files."""

    def __init__(self, width: int, latents: int, k: int) -> None:
        super().__init__()
        if not 1 <= k <= latents:
            raise InputError(f"sae.k: {k} of {latents} latents cannot fire. Choose 1 to {latents}.")
        self.width, self.latents, self.k = width, latents, k
        self.w_enc = nn.Parameter(torch.zeros(latents, width))
        self.w_dec = nn.Parameter(torch.zeros(latents, width))
        self.b_dec = nn.Parameter(torch.zeros(width))

    @torch.no_grad()
    def initialise(
        self,
        centre: Tensor,
        generator: torch.Generator,
        *,
        rows: Tensor | None = None,
        data_share: float = 0.0,
    ) -> None:
        """Unit decoder rows, a tied encoder, and the decoder bias at the data's centre.

        A decoder row points at a mixture of a random direction and of that from the centre to a row of the
        data, so that every latent starts where some data lie. Centring the input is what keeps most latents
        alive from the start (arXiv 2605.31518).

        Args:
            centre: [width].
            generator: of the random directions.
            rows: one row of the data for each latent, [latents, width]; None: random directions alone.
            data_share: weight of the data's direction; the random one has the rest.

        Source of the mixture: datapoint initialisation, https://osu-nlp-group.github.io/saev.
        """
        directions = functional.normalize(torch.randn(self.latents, self.width, generator=generator), dim=1)
        if rows is not None and data_share:
            towards = rows - centre
            lengths = towards.norm(dim=1, keepdim=True)
            # A row at the centre has no direction.
            towards = torch.where(lengths > 0, towards / lengths, directions)
            directions.lerp_(towards, data_share)
        self.w_dec.copy_(functional.normalize(directions, dim=1))
        self.w_enc.copy_(self.w_dec)
        self.b_dec.copy_(centre)
        for bias in self.encoder_biases():
            bias.zero_()

    @abstractmethod
    def encoder_biases(self) -> list[Tensor]:
        """What is in units of the input besides `b_dec`: biases and thresholds, each [latents]."""

    @abstractmethod
    def pre_activations(self, x: Tensor) -> Tensor:
        """What decides whether a latent fires, [..., latents]."""

    @abstractmethod
    def codes(self, x: Tensor) -> Tensor:
        """Codes of all latents, dense, [..., latents]."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The largest codes of every row and their latents, each [..., n].

        n is the largest number of latents that fire in a row of `x`; rows with fewer are filled up with
        latents of code 0, which do not fire.
        """
        codes = self.codes(x)
        firing = (codes > 0).sum(-1)
        most = max(1, int(firing.max())) if firing.numel() else 1
        values, indices = codes.topk(most, dim=-1, sorted=False)
        return values, indices

    def encode_stored(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`encode` of rows from the store: both are on the processor, wherever the autoencoder is."""
        values, indices = self.encode(x.to(self.b_dec.device))
        return values.cpu(), indices.cpu()

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
        """Turn an autoencoder of `scale * x` into one of `x`; latents that fire stay the same."""
        for bias in (self.b_dec, *self.encoder_biases()):
            bias.div_(scale)
