"""Latents of a sparse autoencoder set to a negative value wherever they fire."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from mmie.errors import InputError
from mmie.interventions.interface import FitData, Fitted, Intervention, base_weights_hash
from mmie.models.blocks import find_blocks
from mmie.models.hooks import Edit, edit
from mmie.sae.features import pick_random_matched
from mmie.sae.formats import load_sae
from mmie.sae.topk import TopKSAE

if TYPE_CHECKING:
    import pandas as pd

PICKERS = ("contrast", "random")


@dataclass
class SaeClamp(Intervention):
    """f_j <- -c_j for selected latents that fire, c_j = strength * n_l / norm(w_j).

    n_l is the median norm of the stream, so a strength means the same at every layer of every model;
    w_j is the latent's decoder row. What the autoencoder does not explain passes unchanged. Strength
    0 switches the arm off: an exact identity, not a zero ablation.

    Source: Farrell et al. 2024 (arXiv 2410.19278).
    """

    kind: ClassVar[str] = "sae_clamp"
    tensor_file: ClassVar[str] = "sae_clamp.safetensors"

    picker: str = "contrast"
    """contrast: latents that fire on forget text; random: others matched in firing rate and norm."""
    features: int = 16
    """Latents per layer."""
    strength: float = 1.0
    """Clamp value in residual norms (kappa); a negative one inverts the arm."""
    sink_factor: float = 10.0
    """Positions above this many median norms are left alone: the autoencoder never saw such."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.picker not in PICKERS or self.features < 1 or self.sink_factor <= 1:
            raise InputError(
                f"arm of kind 'sae_clamp': picker {self.picker!r}, features {self.features}, "
                f"sink_factor {self.sink_factor}. Use one of {', '.join(PICKERS)}, at least 1 "
                "feature, a factor above 1."
            )

    @property
    def seeded(self) -> bool:
        return self.picker == "random"

    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        if data.sae is None or not data.latents or data.residual_norms is None:
            raise InputError(
                "arm of kind 'sae_clamp': autoencoder, latents and residual norms are needed. "
                "Run the sae stage first."
            )
        base_hash = base_weights_hash(model)
        layers: dict[str, Any] = {}
        tensors: dict[str, Tensor] = {}
        for layer, table in sorted(data.latents.items()):
            sae = load_sae(data.sae / f"layer{layer}", layer=layer, model_hash=base_hash)
            chosen = choose_latents(table, self.picker, self.features, layer=layer, seed=seed)
            norm = float(data.residual_norms[layer])
            layers[str(layer)] = {
                "latents": chosen,
                "residual_norm": norm,
                "width": sae.width,
                "all_latents": sae.latents,
                "k": sae.k,
            }
            directions = sae.decoder_rows(torch.tensor(chosen)).clone()
            tensors |= {
                f"layers.{layer}.w_enc": sae.w_enc,
                f"layers.{layer}.b_enc": sae.b_enc,
                f"layers.{layer}.b_dec": sae.b_dec,
                f"layers.{layer}.directions": directions,
                f"layers.{layer}.clamp": self.strength * norm / directions.norm(dim=1),
            }
        return Fitted({"layers": layers}, {name: value.detach() for name, value in tensors.items()})

    @contextmanager
    def _attach(self, model: nn.Module) -> Iterator[nn.Module]:
        if self.strength == 0:
            yield model
            return
        blocks = find_blocks(model)
        layers = self._require_fit().facts["layers"]
        edits = {
            int(layer): self._edit(layer, facts, next(blocks[int(layer)].parameters()).device)
            for layer, facts in layers.items()
        }
        with edit(model, edits):
            yield model

    def _edit(self, layer: str, facts: Mapping[str, Any], device: torch.device) -> Edit:
        own = {
            name: self._require_fit().tensors[f"layers.{layer}.{name}"]
            for name in ("w_enc", "b_enc", "b_dec", "directions", "clamp")
        }
        sae = TopKSAE(facts["width"], facts["all_latents"], facts["k"]).requires_grad_(False)
        for name in ("w_enc", "b_enc", "b_dec"):
            getattr(sae, name).copy_(own[name])
        return Clamp(
            sae.to(device),
            torch.tensor(facts["latents"], device=device),
            own["directions"].to(device),
            own["clamp"].to(device),
            self.sink_factor * facts["residual_norm"],
        )

    def _shapes(self, facts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, own in facts["layers"].items():
            width, latents, count = own["width"], own["all_latents"], len(own["latents"])
            shapes |= {
                f"layers.{layer}.w_enc": (latents, width),
                f"layers.{layer}.b_enc": (latents,),
                f"layers.{layer}.b_dec": (width,),
                f"layers.{layer}.directions": (count, width),
                f"layers.{layer}.clamp": (count,),
            }
        return shapes


class Clamp:
    """The edit of one layer: h' = h + sum over fired selected j of (-c_j - f_j) w_j.

    Equal to decoding the changed codes and adding back the error h - dec(f), with |S| decoder rows.
    """

    def __init__(
        self, sae: TopKSAE, latents: Tensor, directions: Tensor, clamp: Tensor, largest_norm: float
    ) -> None:
        """Prepare.

        Args:
            sae: its encoder decides what fires; all of its latents compete.
            latents: selected ones, [selected].
            directions: their decoder rows, [selected, width].
            clamp: c_j of each, [selected].
            largest_norm: positions with a larger norm are left alone.
        """
        self.sae, self.directions, self.clamp = sae, directions, clamp
        self.largest_norm = largest_norm
        # Place of each latent among the selected; -1 for all others.
        self.place = torch.full((sae.latents,), -1, device=latents.device)
        self.place[latents] = torch.arange(len(latents), device=latents.device)

    def __call__(self, hidden: Tensor, keep: Tensor) -> Tensor:
        """Edit the stream [batch, time, width]; rows where nothing selected fires stay as they are."""
        exact = hidden.float()
        codes, indices = self.sae.encode(exact)
        place = self.place[indices]
        fired = (codes > 0) & (place >= 0)
        place = place.clamp(min=0)
        steps = torch.where(fired, -self.clamp[place] - codes, 0.0)
        shape = (*place.shape[:-1], len(self.clamp))
        change = steps.new_zeros(shape).scatter_add(-1, place, steps) @ self.directions
        touched = fired.any(-1) & (exact.norm(dim=-1) <= self.largest_norm)
        return torch.where(touched.unsqueeze(-1), (exact + change).to(hidden.dtype), hidden)


def choose_latents(table: pd.DataFrame, picker: str, count: int, *, layer: int, seed: int) -> list[int]:
    """The latents to clamp.

    Args:
        table: one row a latent with `latent`, `score`, `rate_forget`, `rate_retain`, `decoder_norm`.
        picker: contrast for the highest positive scores, random for a matched draw.
        count: how many.
        layer: for messages and the draw.
        seed: of the draw.

    Raises:
        InputError: too few latents have a positive score, or too few are left to match them.
    """
    ordered = table.sort_values(["score", "latent"], ascending=[False, True])
    best = ordered.loc[ordered["score"] > 0, "latent"].head(count).astype(int).tolist()
    if len(best) < count:
        raise InputError(
            f"arm of kind 'sae_clamp': {len(best)} latents of layer {layer} speak for the forget "
            f"languages, {count} are wanted. Lower `features` or train a larger autoencoder."
        )
    if picker == "contrast":
        return [int(latent) for latent in best]
    by_latent = table.set_index("latent", drop=False).sort_index()
    drawn: list[int] = pick_random_matched(by_latent, best, layer=layer, seed=seed)["features"]
    return drawn
