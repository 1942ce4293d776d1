"""How well an autoencoder describes held-out activations, per language and pooled.

Every number goes through the encode path that gates use, on clusters that training never saw. Sums are
float64 and streaming, so batching does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmie.activations.extract import length_buckets
from mmie.activations.storage import ActivationStore
from mmie.models.blocks import input_device
from mmie.models.hooks import Edit, edit
from mmie.sae.autoencoder import SparseAutoencoder, at_block

if TYPE_CHECKING:
    import pandas as pd

BATCH = 4096
DENSE = 0.1
"""Latents that fire on more than this share of the rows are called dense."""
SUPPORTED = 1.5
"""A language's FVU may be this many times the pooled one."""
SMALLEST_DAMAGE = 0.01
"""Ablations that cost less than this many nats leave loss recovered undefined."""


@dataclass
class _Sums:
    """Running sums over rows; `mean` comes from a first pass."""

    mean: Tensor
    rows: int = 0
    error: float = 0.0
    total: float = 0.0
    estimate: float = 0.0
    overlap: float = 0.0
    firings: float = 0.0
    fired: Tensor | None = None

    def add(self, x: Tensor, estimate: Tensor, fired: Tensor) -> None:
        """Add rows [batch, width], their reconstruction, and firing counts [latents]."""
        x, estimate = x.double(), estimate.double()
        self.rows += len(x)
        self.error += float((x - estimate).square().sum())
        self.total += float((x - self.mean).square().sum())
        self.estimate += float(estimate.square().sum())
        self.overlap += float((x * estimate).sum())
        self.firings += float(fired.sum())
        self.fired = fired.double() if self.fired is None else self.fired + fired

    def report(self) -> dict[str, Any]:
        """The measures of `measure_quality` for these rows."""
        assert self.fired is not None
        rate = self.fired / self.rows
        alive = rate > 0
        counts, edges = np.histogram(np.log10(rate[alive].numpy()), bins=12, range=(-6, 0))
        return {
            "rows": self.rows,
            "fvu": self.error / self.total,
            "l0": self.firings / self.rows,
            "active_share": self.firings / self.rows / len(rate),
            "dead_share": float((~alive).double().mean()),
            "dense_share": float((rate > DENSE).double().mean()),
            "shrinkage": self.estimate / self.overlap if self.overlap else math.nan,
            "firing_rate_log10": {"counts": counts.tolist(), "edges": edges.tolist()},
        }


@torch.no_grad()
def measure_quality(sae: SparseAutoencoder, store: ActivationStore) -> dict[str, Any]:
    """Reconstruction and sparsity on held-out rows.

    `fvu` = sum of squared errors over the sum of squared distances from the rows' own mean; `l0` =
    mean number of positive codes (not k), `active_share` = l0 / latents; `dead_share` = latents that
    never fire on `rows` rows; `shrinkage` = sum norm(x^)^2 / sum <x, x^>, 1 when unbiased.

    Args:
        sae: the autoencoder as saved.
        store: rows of its layer, a split that training did not read.

    Returns:
        {"pooled": {...}, "languages": {language: {...}}}. `pooled` has `fvu_within` too: distances from
        each language's own mean, so that it compares with the languages' FVU. `supported` says whether
        a language's FVU is at most 1.5 times that; without it no claim about the language is made.
    """
    means = {language: _mean(store, [language]) for language in store.languages}
    pooled = _Sums(_mean(store, store.languages))
    languages: dict[str, dict[str, Any]] = {}
    within = 0.0
    for language in store.languages:
        sums = _Sums(means[language])
        for x, _ in store.batches(language, BATCH):
            values, indices = sae.encode(x.to(sae.b_dec.device))
            estimate, fires = sae.decode(values, indices).cpu(), indices[values > 0].cpu()
            fired = torch.bincount(fires, minlength=sae.latents)
            sums.add(x, estimate, fired)
            pooled.add(x, estimate, fired)
        within += sums.total
        languages[language] = sums.report()
    whole = {**pooled.report(), "fvu_within": pooled.error / within}
    for report in languages.values():
        report["supported"] = report["fvu"] <= SUPPORTED * whole["fvu_within"]
    return {"pooled": whole, "languages": languages, "k": sae.k, "latents": sae.latents}


@torch.no_grad()
def measure_loss_recovered(
    model: nn.Module,
    tokenizer: Any,
    rows: Mapping[str, pd.DataFrame],
    sae: SparseAutoencoder,
    layer: int,
    *,
    norm_limit: float = math.inf,
    token_budget: int = 4096,
) -> dict[str, dict[str, float]]:
    """How much of the model's loss survives when the autoencoder stands in for the stream.

    (CE_ablated - CE_sae) / (CE_ablated - CE_base), token-pooled; only kept rows are replaced: first and
    special tokens, pads and sinks pass unchanged. Not clipped; NaN where the ablation costs less than
    0.01 nat.

    Args:
        model: the base model with its head.
        tokenizer: its tokenizer.
        rows: held-out items (`prompt`, `answer`) by language.
        sae: the autoencoder, on any device.
        layer: its block.
        norm_limit: rows above this norm are sinks (`sink_factor` times the median norm).
        token_budget: tokens of a forward pass.

    Returns:
        By language, and "pooled": `loss_base`, `loss_sae`, `loss_zero`, `loss_mean`,
        `loss_recovered` (against zero ablation), `loss_recovered_mean` (against the mean).
    """
    sae = at_block(sae, model, layer)
    replacements: dict[str, Callable[[Tensor], Tensor] | None] = {
        "base": None,
        "sae": sae.forward,
        "zero": torch.zeros_like,
        "mean": lambda x: sae.b_dec.to(x).expand_as(x),
    }
    totals: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for language, table in rows.items():
        sums, count = np.zeros(len(replacements)), 0
        for inputs, special in _batches(tokenizer, table, token_budget):
            count += int(inputs["attention_mask"][:, 1:].sum())
            for at, replace in enumerate(replacements.values()):
                sums[at] += _summed_loss(model, inputs, special, layer, replace, norm_limit)
        totals[language], counts[language] = sums, count
    totals["pooled"] = np.sum(list(totals.values()), axis=0)
    counts["pooled"] = sum(counts.values())
    return {
        language: _recovered(dict(zip(replacements, sums / counts[language], strict=True)))
        for language, sums in totals.items()
    }


def loss_recovered(base: float, replaced: float, ablated: float) -> float:
    """(ablated - replaced) / (ablated - base), NaN when the ablation costs less than 0.01 nat."""
    damage = ablated - base
    return float((ablated - replaced) / damage) if damage >= SMALLEST_DAMAGE else math.nan


def _recovered(losses: Mapping[str, float]) -> dict[str, float]:
    return {
        **{f"loss_{name}": float(value) for name, value in losses.items()},
        "loss_recovered": loss_recovered(losses["base"], losses["sae"], losses["zero"]),
        "loss_recovered_mean": loss_recovered(losses["base"], losses["sae"], losses["mean"]),
    }


def _summed_loss(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    special: Tensor,
    layer: int,
    replace: Callable[[Tensor], Tensor] | None,
    norm_limit: float,
) -> float:
    def swap(hidden: Tensor, keep: Tensor) -> Tensor:
        assert replace is not None
        keep = keep & ~special.to(keep.device) & (hidden.float().norm(dim=-1) <= norm_limit)
        new = hidden.clone()
        new[keep] = replace(hidden[keep].float()).to(hidden.dtype)
        return new

    device = input_device(model)
    inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
    edits: dict[int, Edit] = {layer: swap}
    if replace is None:
        logits = model(**inputs).logits
    else:
        with edit(model, edits):
            logits = model(**inputs).logits
    targets = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)[:, 1:].to(logits.device)
    return float(
        functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum"
        )
    )


def _batches(
    tokenizer: Any, table: pd.DataFrame, token_budget: int
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Model inputs and where special tokens are, [batch, time]."""
    from mmie.models.prompts import collate, encode_all, padding_id

    encoded = encode_all(tokenizer, table["prompt"].tolist(), table["answer"].tolist())
    special = torch.tensor(sorted(tokenizer.all_special_ids))
    for batch in length_buckets([len(item.ids) for item in encoded], token_budget):
        inputs = collate([encoded[at] for at in batch], padding_id(tokenizer)).inputs()
        yield inputs, torch.isin(inputs["input_ids"], special)


def _mean(store: ActivationStore, languages: Sequence[str]) -> Tensor:
    total, count = torch.zeros(store.width, dtype=torch.float64), 0
    for language in languages:
        for x, _ in store.batches(language, BATCH):
            total += x.double().sum(0)
            count += len(x)
    return total / count
