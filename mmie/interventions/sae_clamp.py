"""Latents of a sparse autoencoder set to a negative value wherever they fire."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmie.activations.norms import sink_factor
from mmie.errors import InputError
from mmie.interventions.gate_fitting import fit_gate, fit_log_odds, stream_scores, text_scores
from mmie.interventions.gates import Detector, Gate
from mmie.interventions.interface import FitData, Fitted, Intervention, base_weights_hash
from mmie.models.blocks import block_device, find_blocks
from mmie.models.hooks import Pass, edit
from mmie.sae.architectures import build as build_sae
from mmie.sae.clamp import Clamp, clamp_values
from mmie.sae.formats import load_sae
from mmie.sae.pickers import PICKERS, choose_latents

GATES = {"static": "", "dsg": "mean", "window": "window", "cusum": "cusum", "language": "cusum"}
"""Gates and the statistic each runs over its token scores."""


@dataclass
class SaeClamp(Intervention):
    """f_j <- -c_j for selected latents that fire, c_j = strength * n_l / norm(w_j).

    n_l is the median norm of the stream, so a strength means the same at every layer of every model;
    w_j is the latent's decoder row. What the autoencoder does not explain passes unchanged. Tokens that
    the autoencoder never saw (first and special ones, sinks) stay as they are and count in no gate.
    Strength 0 switches the arm off: an exact identity, not a zero ablation.

    A gate other than `static` lets the clamp act only once the text has tripped it; see
    `mmie.interventions.gates`. `dsg`, `window` and `cusum` watch whether a selected latent fires,
    `language` the log-odds of the tokens that were read or generated, in every script of the forget
    language. Thresholds are calibrated on DEV items of every retain language.

    Source: Farrell et al. 2024 (arXiv 2410.19278); the gate on firing rates: Muhamed et al. 2025
    (arXiv 2504.08192).
    """

    kind: ClassVar[str] = "sae_clamp"
    tensor_file: ClassVar[str] = "sae_clamp.safetensors"

    picker: str = "contrast"
    """contrast: latents that fire on forget text; random: others matched in firing rate and norm."""
    features: int = 16
    """Latents per layer."""
    strength: float = 1.0
    """Clamp value in residual norms (kappa); a negative one inverts the arm."""
    gate: str = "static"
    """When it acts: always (static), or after dsg, window, cusum or language says so."""
    window: int = 8
    """Tokens over which a gate averages."""
    benign_rate: float = 0.05
    """Share of retain items that may trip the gate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.picker not in PICKERS or self.features < 1:
            raise InputError(
                f"arm of kind 'sae_clamp': picker {self.picker!r}, features {self.features}. Use one of "
                f"{', '.join(PICKERS)}, at least 1 feature."
            )
        if self.gate not in GATES:
            raise InputError(f"arm of kind 'sae_clamp': gate {self.gate!r}. Use one of {', '.join(GATES)}.")

    @property
    def seeded(self) -> bool:
        return self.picker == "random"

    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        if data.sae is None or not data.latents or data.residual_norms is None or data.tokenizer is None:
            raise InputError(
                "arm of kind 'sae_clamp': tokenizer, autoencoder, latents and residual norms are needed. "
                "Run the sae stage first."
            )
        root, retain = data.activations, data.retain_languages
        if root is None or not retain:
            raise InputError(
                "arm of kind 'sae_clamp': stored activations of the retain languages are needed. Run the "
                "activation stage first."
            )
        factor = sink_factor(root, retain)
        base_hash = base_weights_hash(model)
        layers: dict[str, Any] = {}
        tensors: dict[str, Tensor] = {}
        for layer, table in sorted(data.latents.items()):
            sae = load_sae(data.sae / f"layer{layer}", layer=layer, model_hash=base_hash)
            chosen = choose_latents(table, self.picker, self.features, layer=layer, seed=seed)
            norm = float(data.residual_norms[layer])
            directions = sae.decoder_rows(torch.tensor(chosen)).clone()
            own = {name: value for name, value in sae.state_dict().items() if name != "w_dec"}
            own["directions"] = directions
            # Of strength 1, so that a fitted arm can be applied at any other.
            own["clamp"] = clamp_values(directions, norm)
            layers[str(layer)] = {
                "latents": chosen,
                "residual_norm": norm,
                "largest_norm": factor * norm,
                "width": sae.width,
                "all_latents": sae.latents,
                "k": sae.k,
                "architecture": sae.architecture,
                "shapes": {name: list(value.shape) for name, value in own.items()},
            }
            tensors |= {f"layers.{layer}.{name}": value.detach() for name, value in own.items()}
            if self.gate != "static":
                clamp = Clamp(sae, torch.tensor(chosen), directions, own["clamp"], factor * norm)
                facts, more = self._fit_gate(model, data, root, layer, clamp)
                layers[str(layer)]["gate"] = facts
                tensors |= more
        return Fitted({"layers": layers, "special_ids": sorted(data.tokenizer.all_special_ids)}, tensors)

    def _fit_gate(
        self, model: nn.Module, data: FitData, root: Path, layer: int, clamp: Clamp
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        forget, retain = data.forget_languages, data.retain_languages
        if not forget:
            raise InputError(f"arm of kind 'sae_clamp': gate {self.gate!r} needs forget languages.")
        tensors: dict[str, Tensor] = {}
        if self.gate == "language":
            vocabulary = int(model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
            odds = fit_log_odds(root, forget, retain, vocabulary)
            tensors[f"layers.{layer}.log_odds"] = odds

            def scores(language: str, split: str) -> list[Tensor]:
                return text_scores(root, language, split, odds)
        else:

            def scores(language: str, split: str) -> list[Tensor]:
                return stream_scores(root, layer, language, split, clamp.reads)

        _, facts = fit_gate(
            GATES[self.gate], forget, retain, scores, window=self.window, rate=self.benign_rate
        )
        return facts | {"tokens": len(odds) if self.gate == "language" else 0}, tensors

    @contextmanager
    def _attach(self, model: nn.Module) -> Iterator[nn.Module]:
        if self.strength == 0:
            yield model
            return
        blocks = find_blocks(model)
        edits = {
            int(layer): self._edit(layer, facts, block_device(blocks[int(layer)]))
            for layer, facts in self._require_fit().facts["layers"].items()
        }

        def begin(given: Pass) -> None:
            for clamp in edits.values():
                clamp.begin(given)

        try:
            with edit(model, edits, on_pass=begin):
                yield model
        finally:
            for clamp in edits.values():
                clamp.close()

    def _edit(self, layer: str, facts: Mapping[str, Any], device: torch.device) -> Clamp:
        fitted = self._require_fit()
        tensors = fitted.tensors
        own = {name: tensors[f"layers.{layer}.{name}"] for name in facts["shapes"]}
        sae = build_sae(facts["architecture"], facts["width"], facts["all_latents"], facts["k"])
        sae.requires_grad_(False)
        for name, value in sae.state_dict().items():
            if name != "w_dec":
                value.copy_(own[name])
        gate = None
        if "gate" in facts:
            odds = tensors.get(f"layers.{layer}.log_odds")
            detector = Detector(**facts["gate"]["detector"])
            gate = Gate(detector, None if odds is None else odds.to(device))
        return Clamp(
            sae.to(device),
            torch.tensor(facts["latents"], device=device),
            own["directions"].to(device),
            self.strength * own["clamp"].to(device),
            facts["largest_norm"],
            gate,
            torch.tensor(fitted.facts["special_ids"], device=device, dtype=torch.long),
        )

    def _shapes(self, facts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, own in facts["layers"].items():
            shapes |= {f"layers.{layer}.{name}": tuple(shape) for name, shape in own["shapes"].items()}
            if own.get("gate", {}).get("tokens"):
                shapes[f"layers.{layer}.log_odds"] = (own["gate"]["tokens"],)
        return shapes
