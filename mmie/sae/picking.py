"""The feature stage of one layer: score all latents, pick, validate on DEV, and show contexts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmie.activations.storage import ActivationStore
from mmie.errors import InputError
from mmie.sae.attribution import attribute, attribution_score
from mmie.sae.autoencoder import SparseAutoencoder
from mmie.sae.features import pick_contrast
from mmie.sae.gibberish import scramble, statistics_of_texts
from mmie.sae.item_statistics import LatentStatistics
from mmie.sae.pickers import PICKERS, choose_latents, score_table

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn


@dataclass(frozen=True)
class Sides:
    """What is to be forgotten and what is to stay."""

    forget: Sequence[str]
    """Written forms of the forget language."""
    retain: Sequence[str]


def score_latents(
    model: nn.Module,
    tokenizer: Any,
    sae: SparseAutoencoder,
    store: ActivationStore,
    rows: Mapping[str, pd.DataFrame],
    sides: Sides,
    statistics: Mapping[str, LatentStatistics],
    *,
    items: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """`score_table` of a layer with every column that the data allow.

    Args:
        model: the base model.
        tokenizer: its tokenizer.
        sae: the layer's autoencoder.
        store: rows of the layer, FIT split.
        rows: FIT items by written form.
        sides: forget and retain.
        statistics: `latent_statistics` of the store.
        items: largest number of items of a form for gibberish and attribution, drawn by `seed`.
        seed: of the draw and of the gibberish.
    """
    layer = store.layer
    limit = max(store.sink_limit.values())
    some = {form: sampled(table, items, seed) for form, table in rows.items()}
    gibberish = None
    if len(sides.forget) > 1:
        texts = {form: scramble(_texts(some[form]), seed) for form in sides.forget}
        gibberish = statistics_of_texts(model, tokenizer, texts, {layer: sae}, norm_limits={layer: limit})[
            layer
        ]
    attributions = attribute(model, tokenizer, some, sae, layer, norm_limit=limit)
    return score_table(
        sae,
        statistics,
        forget=sides.forget,
        retain=sides.retain,
        gibberish=gibberish,
        attribution=attribution_score(attributions, forget=sides.forget, retain=sides.retain),
    )


def pick_all(table: pd.DataFrame, count: int, *, layer: int) -> tuple[dict[str, list[int]], dict[str, str]]:
    """Latents by picker, and why a picker has none: {picker: latents}, {picker: reason}."""
    picks: dict[str, list[int]] = {}
    without: dict[str, str] = {}
    for picker in PICKERS:
        if picker == "random":
            continue
        try:
            picks[picker] = choose_latents(table, picker, count, layer=layer)
        except InputError as error:
            without[picker] = str(error)
    return picks, without


def contrast_entry(
    sae: SparseAutoencoder,
    statistics: Mapping[str, LatentStatistics],
    sides: Sides,
    count: int,
    *,
    layer: int,
) -> dict[str, Any]:
    """`pick_contrast`, or its reason for no picks as `without`; only an arm that wants them stops."""
    try:
        return pick_contrast(
            sae, statistics, layer=layer, forget=sides.forget, retain=sides.retain, top_k=count
        )
    except InputError as error:
        return {"picker": "contrast", "layer": layer, "features": [], "without": str(error)}


def overlaps(picks: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Jaccard overlap of every two pickers' latents, by "one/other"."""
    names = sorted(picks)
    return {
        f"{one}/{other}": len(set(picks[one]) & set(picks[other]))
        / max(1, len(set(picks[one]) | set(picks[other])))
        for at, one in enumerate(names)
        for other in names[at + 1 :]
    }


def sampled(table: pd.DataFrame, items: int, seed: int) -> pd.DataFrame:
    """At most `items` rows, drawn by seed, in their order."""
    if len(table) <= items:
        return table
    return table.sample(items, random_state=seed).sort_index()


def _texts(table: pd.DataFrame) -> list[str]:
    return [f"{prompt} {answer}" for prompt, answer in zip(table["prompt"], table["answer"], strict=True)]
