"""The edit that sets latents to a negative value where they fire: of the arm, and of the check of picks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from mmie.models.hooks import Pass
from mmie.sae.autoencoder import SparseAutoencoder


class Opening(Protocol):
    """Says at which tokens a clamp acts; see `mmie.interventions.gates`."""

    reads_text: bool
    """Whether it goes by the tokens and not by what fires."""

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


def clamp_of(
    sae: SparseAutoencoder,
    latents: Sequence[int],
    residual_norm: float,
    largest_norm: float,
    special_ids: Sequence[int] = (),
) -> Clamp:
    """What the arm `sae_clamp` does with these latents at strength 1, its other options at their defaults."""
    device = sae.w_dec.device
    chosen = torch.tensor(list(latents), device=device)
    directions = sae.decoder_rows(chosen)
    special = torch.tensor(list(special_ids), device=device, dtype=torch.long)
    values = clamp_values(directions, residual_norm)
    return Clamp(sae, chosen, directions, values, largest_norm, special=special)


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
        special: Tensor | None = None,
    ) -> None:
        """Prepare.

        Args:
            sae: its encoder decides what fires; all of its latents compete.
            latents: selected ones, [selected].
            directions: their decoder rows, [selected, width].
            clamp: c_j of each, [selected].
            largest_norm: positions with a larger norm are left alone: the autoencoder never saw such.
            gate: says at which tokens the clamp acts; None for all.
            special: ids of special tokens, which are left alone for the same reason; None for none.
        """
        self.sae, self.directions, self.clamp, self.gate = sae, directions, clamp, gate
        self.largest_norm, self.special = largest_norm, special
        self._text: Tensor | None = None
        # Place of each latent among the selected; -1 for all others.
        self.place = torch.full((sae.latents,), -1, device=latents.device)
        self.place[latents] = torch.arange(len(latents), device=latents.device)

    def begin(self, given: Pass) -> None:
        """A forward pass begins: note which of its tokens are text, and tell the gate."""
        self._text = None
        if self.special is not None and given.ids is not None:
            self._text = ~torch.isin(given.ids.to(self.special.device), self.special)
        if self.gate is not None:
            self.gate.begin(given)

    def close(self) -> None:
        """Forget the request."""
        self._text = None
        if self.gate is not None:
            self.gate.close()

    def __call__(self, hidden: Tensor, keep: Tensor) -> Tensor:
        """Edit the stream [batch, time, width]; rows where nothing selected fires stay as they are."""
        exact = hidden.float()
        codes, place, fired = self._codes(exact)
        text = keep.bool() if self._text is None else keep.bool() & self._text
        seen = text & self._no_sink(exact)
        touched = fired.any(-1) & seen
        if self.gate is not None:
            # What is calibrated is what counts here: a gate that reads text knows of no norms.
            counts = text if self.gate.reads_text else seen
            touched = touched & self.gate(touched.float(), counts)
        steps = torch.where(fired, -self.clamp[place] - codes, 0.0)
        shape = (*place.shape[:-1], len(self.clamp))
        change = steps.new_zeros(shape).scatter_add(-1, place, steps) @ self.directions
        return torch.where(touched.unsqueeze(-1), (exact + change).to(hidden.dtype), hidden)

    @torch.no_grad()
    def reads(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What calibrates gates: 1 where a selected latent fires, else 0; which rows count. Both [...]."""
        exact = rows.float()
        return self._codes(exact)[2].any(-1).float(), self._no_sink(exact)

    def _no_sink(self, exact: Tensor) -> Tensor:
        return exact.norm(dim=-1) <= self.largest_norm

    def _codes(self, exact: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Largest codes, their places among the selected (0 for others), and which of them count."""
        codes, indices = self.sae.encode(exact)
        place = self.place[indices]
        return codes, place.clamp(min=0), (codes > 0) & (place >= 0)
