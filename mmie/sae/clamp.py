"""The edit that sets latents to a negative value where they fire: of the arm, and of the check of picks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from mmie.models.hooks import Pass
from mmie.sae.autoencoder import SparseAutoencoder

SINK_FACTOR = 10.0
"""Positions above this many median norms are left alone: the autoencoder never saw such."""


class Opening(Protocol):
    """Says at which tokens a clamp acts; see `mmie.interventions.gates`."""

    def __call__(self, scores: Tensor | None, keep: Tensor) -> Tensor:
        """True where it acts, [batch, time]; `scores` is 1 where a selected latent fires."""

    def begin(self, given: Pass) -> None:
        """A forward pass begins."""

    def close(self) -> None:
        """Forget the request."""


def clamp_values(directions: Tensor, residual_norm: float) -> Tensor:
    """c_j = n_l / norm(w_j) at strength 1, [selected].

    Args:
        directions: decoder rows w_j, [selected, width].
        residual_norm: n_l, see `mmie.activations.norms`.

    Source: Farrell et al. 2024 (arXiv 2410.19278), in units of the stream.
    """
    return residual_norm / directions.norm(dim=1)


def clamp_of(sae: SparseAutoencoder, latents: Sequence[int], residual_norm: float) -> Clamp:
    """What the arm `sae_clamp` does with these latents at strength 1, its other options at their defaults."""
    chosen = torch.tensor(list(latents), device=sae.w_dec.device)
    directions = sae.decoder_rows(chosen)
    return Clamp(
        sae, chosen, directions, clamp_values(directions, residual_norm), SINK_FACTOR * residual_norm
    )


class Clamp:
    """The edit of one layer: h' = h + sum over fired selected j of (-c_j - f_j) w_j.

    Equal to decoding the changed codes and adding back the error h - dec(f), with |S| decoder rows.
    """

    def __init__(
        self,
        sae: SparseAutoencoder,
        latents: Tensor,
        directions: Tensor,
        clamp: Tensor,
        largest_norm: float,
        gate: Opening | None = None,
    ) -> None:
        """Prepare.

        Args:
            sae: its encoder decides what fires; all of its latents compete.
            latents: selected ones, [selected].
            directions: their decoder rows, [selected, width].
            clamp: c_j of each, [selected].
            largest_norm: positions with a larger norm are left alone.
            gate: says at which tokens the clamp acts; None for all.
        """
        self.sae, self.directions, self.clamp, self.gate = sae, directions, clamp, gate
        self.largest_norm = largest_norm
        # Place of each latent among the selected; -1 for all others.
        self.place = torch.full((sae.latents,), -1, device=latents.device)
        self.place[latents] = torch.arange(len(latents), device=latents.device)

    def __call__(self, hidden: Tensor, keep: Tensor) -> Tensor:
        """Edit the stream [batch, time, width]; rows where nothing selected fires stay as they are."""
        exact = hidden.float()
        codes, place, fired = self._codes(exact)
        touched = fired.any(-1) & (exact.norm(dim=-1) <= self.largest_norm)
        if self.gate is not None:
            touched = touched & self.gate(touched.float(), keep)
        steps = torch.where(fired, -self.clamp[place] - codes, 0.0)
        shape = (*place.shape[:-1], len(self.clamp))
        change = steps.new_zeros(shape).scatter_add(-1, place, steps) @ self.directions
        return torch.where(touched.unsqueeze(-1), (exact + change).to(hidden.dtype), hidden)

    @torch.no_grad()
    def fires(self, rows: Tensor) -> Tensor:
        """1 where a selected latent fires, else 0, [...]: the score that gates read."""
        return self._codes(rows.float())[2].any(-1).float()

    def _codes(self, exact: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Largest codes, their places among the selected (0 for others), and which of them count."""
        codes, indices = self.sae.encode(exact)
        place = self.place[indices]
        return codes, place.clamp(min=0), (codes > 0) & (place >= 0)
