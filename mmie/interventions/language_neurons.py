"""LAPE: feed-forward neurons that fire for few languages, silenced where those are to be forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mmie.errors import InputError
from mmie.interventions.interface import FitData, Fitted, Intervention
from mmie.io import seed_from
from mmie.models.blocks import block_device, find_blocks, input_device
from mmie.models.hooks import Edit, capture_neurons, edit_neurons
from mmie.models.prompts import collate, encode_all, length_buckets, padding_id

if TYPE_CHECKING:
    import pandas as pd

PICKERS = ("lape", "random")
FEWEST_LANGUAGES = 3
ACTIVE_QUANTILE = 0.95
BATCH = 32


def language_entropy(rates: Tensor) -> Tensor:
    """H_j = -sum_k p_jk log p_jk, p the firing rates of neuron j normalised over languages, [neurons].

    Low for neurons of few languages; NaN for neurons that never fire.

    Args:
        rates: share of tokens on which each neuron is positive, [neurons, languages].

    Source: Tang et al. 2024 (arXiv 2402.16438).
    """
    share = rates / rates.sum(-1, keepdim=True)
    return -torch.where(share > 0, share * share.log(), share).sum(-1)


def language_neurons(rates: Tensor, share: float) -> Tensor:
    """The neurons of lowest entropy that fire often for some language, [chosen].

    Args:
        rates: [neurons, languages].
        share: share of all neurons to take; fewer where fewer fire often enough.
    """
    # NumPy's: torch.quantile takes no more than 2^24 entries, which a large model's neurons exceed.
    limit = float(np.quantile(rates.numpy(), ACTIVE_QUANTILE))
    often = ((rates >= limit) & (rates > 0)).any(-1)
    entropy = torch.where(often, language_entropy(rates), torch.inf)
    count = min(max(1, round(share * len(rates))), int(often.sum()))
    return entropy.argsort(stable=True)[:count]


@dataclass
class LanguageNeurons(Intervention):
    """Neurons of low language entropy that fire most for a forget language: multiplied by 1 - strength.

    A neuron is what the activation function of a block's feed-forward part returns. Needs at least three
    languages among forget and retain together. Strength 0 attaches nothing.
    """

    kind: ClassVar[str] = "language_neurons"
    tensor_file: ClassVar[str] = "language_neurons.safetensors"

    picker: str = "lape"
    """lape, or random: as many neurons in the same blocks, drawn by seed."""
    share: float = 0.01
    """Share of all neurons that count as belonging to a language."""
    strength: float = 1.0
    """1 silences, 0 is the identity, a negative one amplifies."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.picker not in PICKERS or not 0 < self.share < 1:
            raise InputError(
                f"arm of kind 'language_neurons': picker {self.picker!r}, share {self.share}. Use one of "
                f"{', '.join(PICKERS)} and a share between 0 and 1."
            )

    @property
    def seeded(self) -> bool:
        return self.picker == "random"

    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        if data.forget is None or data.retain is None or data.tokenizer is None:
            raise InputError("arm of kind 'language_neurons': tokenizer, forget and retain rows are needed.")
        groups = {
            str(language): rows
            for table in (data.forget, data.retain)
            for language, rows in table.groupby("language", sort=True)
        }
        if len(groups) < FEWEST_LANGUAGES:
            raise InputError(
                f"arm of kind 'language_neurons': {len(groups)} languages ({', '.join(groups)}); entropy "
                f"over languages needs {FEWEST_LANGUAGES}. Add one to `retain`."
            )
        per_layer = [firing_rates(model, data.tokenizer, rows) for rows in groups.values()]
        sizes = [len(rates) for rates in per_layer[0]]
        rates = torch.stack([torch.cat(layers) for layers in per_layer], 1)
        chosen = language_neurons(rates, self.share)
        forget = torch.tensor([name in set(data.forget["language"]) for name in groups])
        mine = chosen[forget[rates[chosen].argmax(-1)]]
        if len(mine) == 0:
            raise InputError(
                f"arm of kind 'language_neurons': none of {len(chosen)} language neurons fires most for a "
                "forget language. Raise `share`."
            )
        by_layer = _by_layer(mine, sizes)
        if self.picker == "random":
            by_layer = _redrawn(by_layer, sizes, seed)
        facts = {
            "languages": list(groups),
            "neurons": {str(layer): len(own) for layer, own in by_layer.items()},
            "language_neurons": len(chosen),
        }
        return Fitted(facts, {f"layers.{layer}": own for layer, own in by_layer.items()})

    @contextmanager
    def _attach(self, model: nn.Module) -> Iterator[nn.Module]:
        if self.strength == 0:
            yield model
            return
        blocks, fitted = find_blocks(model), self._require_fit()
        edits = {
            int(layer): scaling(
                fitted.tensors[f"layers.{layer}"].to(block_device(blocks[int(layer)])), 1 - self.strength
            )
            for layer in fitted.facts["neurons"]
        }
        with edit_neurons(model, edits):
            yield model

    def _shapes(self, facts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        return {f"layers.{layer}": (count,) for layer, count in facts["neurons"].items()}


def scaling(chosen: Tensor, factor: float) -> Edit:
    """Edit that multiplies chosen neurons of [batch, time, neurons] by a factor."""

    def act(fired: Tensor, keep: Tensor) -> Tensor:
        changed = fired.clone()
        changed[..., chosen] *= factor
        return changed

    return act


@torch.no_grad()
def firing_rates(model: nn.Module, tokenizer: Any, rows: pd.DataFrame) -> list[Tensor]:
    """Share of kept tokens of the rows on which each neuron is positive, by block, [neurons] each."""
    counts: dict[int, Tensor] = {}
    tokens: dict[int, int] = {}

    def receive(layer: int, fired: Tensor, keep: Tensor) -> None:
        positive = (fired[keep] > 0).sum(0).double().cpu()
        counts[layer] = counts.get(layer, torch.zeros_like(positive)) + positive
        tokens[layer] = tokens.get(layer, 0) + int(keep.sum())

    encoded = encode_all(tokenizer, rows["prompt"].tolist(), rows["answer"].tolist())
    device = input_device(model)
    with capture_neurons(model, receive):
        for indices in length_buckets(encoded, BATCH):
            batch = collate([encoded[index] for index in indices], padding_id(tokenizer))
            model(**batch.to(device).inputs(), use_cache=False)
    return [counts[layer] / tokens[layer] for layer in sorted(counts)]


def _by_layer(chosen: Tensor, sizes: list[int]) -> dict[int, Tensor]:
    found, start = {}, 0
    for layer, size in enumerate(sizes):
        own = chosen[(chosen >= start) & (chosen < start + size)] - start
        if len(own):
            found[layer] = own.sort().values
        start += size
    return found


def _redrawn(by_layer: dict[int, Tensor], sizes: list[int], seed: int) -> dict[int, Tensor]:
    drawn = {}
    for layer, own in by_layer.items():
        generator = torch.Generator().manual_seed(seed_from("language_neurons", seed, layer))
        free = torch.ones(sizes[layer], dtype=torch.bool)
        free[own] = False
        others = free.nonzero().flatten()
        pick = torch.randperm(len(others), generator=generator)[: len(own)]
        drawn[layer] = others[pick].sort().values
    return drawn
