"""The Gated autoencoder: one path decides which latents fire, another how strongly."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmie.sae.autoencoder import SparseAutoencoder


class GatedSAE(SparseAutoencoder):
    """a = 1[p > 0] relu(q), p = W_enc (x - b_dec) + b_gate, q = exp(r_mag) W_enc (x - b_dec) + b_mag.

    Source: Rajamanoharan et al. 2024 (arXiv 2404.16014).
    """

    architecture: ClassVar[str] = "gated"
    format: ClassVar[str] = "gated"

    def __init__(self, width: int, latents: int, k: int) -> None:
        super().__init__(width, latents, k)
        self.b_gate = nn.Parameter(torch.zeros(latents))
        self.b_mag = nn.Parameter(torch.zeros(latents))
        self.r_mag = nn.Parameter(torch.zeros(latents))

    def encoder_biases(self) -> list[Tensor]:
        return [self.b_gate, self.b_mag]

    def pre_activations(self, x: Tensor) -> Tensor:
        """p = W_enc (x - b_dec) + b_gate, [..., latents]."""
        return functional.linear(x - self.b_dec, self.w_enc, self.b_gate)

    def codes_from(self, gate: Tensor) -> Tensor:
        """Codes from `pre_activations`, [..., latents]: one matrix product serves both paths."""
        strength = (gate - self.b_gate) * self.r_mag.exp() + self.b_mag
        return strength.relu() * (gate > 0)

    def codes(self, x: Tensor) -> Tensor:
        return self.codes_from(self.pre_activations(x))


def gate_penalty(gate: Tensor) -> Tensor:
    """Mean over rows of the summed gate values relu(p): closed gates are not pulled back open.

    A penalty on the logits themselves would pull them to 0, where the gate is undecided.
    """
    return gate.relu().sum(-1).mean()
