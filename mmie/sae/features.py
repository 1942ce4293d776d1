"""Pick latents that speak for the forget language, and matched random ones as their control.

Codes come from the encoder that the gate uses. FIT split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmie.errors import InputError
from mmie.io import seed_from
from mmie.sae.autoencoder import SparseAutoencoder
from mmie.sae.item_statistics import HALVES, LatentStatistics, Moments

DECILES = 10
NORM_TOLERANCE = 0.05
CHOICES = 10
"""Latents among which a matched one is drawn, so that several draws differ."""


def contrast_table(
    sae: SparseAutoencoder,
    statistics: Mapping[str, LatentStatistics],
    *,
    forget: Sequence[str],
    retain: Sequence[str],
) -> pd.DataFrame:
    """One row a latent: `score`, `rate_forget`, `rate_retain`, `decoder_norm`.

    score = (mean code on forget items - mean code on retain items) / standard deviation over items;
    languages weigh equally. 0 for latents that never fire.

    Raises:
        InputError: no forget or no retain language.
    """
    if not forget or not retain:
        raise InputError("features: a contrast needs forget and retain languages. Name both.")
    score = _contrast(statistics, forget, retain)
    return pd.DataFrame(
        {
            "latent": np.arange(len(score)),
            "score": score,
            "rate_forget": np.mean([statistics[language].rate for language in forget], axis=0),
            "rate_retain": np.mean([statistics[language].rate for language in retain], axis=0),
            "decoder_norm": sae.w_dec.detach().double().norm(dim=1).cpu().numpy(),
        }
    )


def pick_contrast(
    sae: SparseAutoencoder,
    statistics: Mapping[str, LatentStatistics],
    *,
    layer: int,
    forget: Sequence[str],
    retain: Sequence[str],
    top_k: int,
) -> dict[str, Any]:
    """The `top_k` latents with the largest positive contrast, ties to the lower index.

    Returns:
        `picker`, `layer`, `mode` ("exact": codes of the full encoder), `features`, `scores`, firing
        rates of the picked, and `stability`: Jaccard overlap of the picks on two halves of the items.

    Raises:
        InputError: fewer than `top_k` latents fire more on forget than on retain items.
    """
    table = contrast_table(sae, statistics, forget=forget, retain=retain)
    features = _top(table["score"].to_numpy(), top_k)
    if len(features) < top_k:
        raise InputError(
            f"features: {len(features)} latents of layer {layer} fire more on {', '.join(forget)}, "
            f"{top_k} are wanted. Lower the number of features or train a larger autoencoder."
        )
    picked = table.loc[features]
    return {
        "picker": "contrast",
        "layer": layer,
        "mode": "exact",
        "features": features,
        "scores": picked["score"].tolist(),
        "rate_forget": picked["rate_forget"].tolist(),
        "rate_retain": picked["rate_retain"].tolist(),
        "stability": _stability(statistics, forget, retain, top_k),
    }


def pick_random_matched(
    table: pd.DataFrame, features: Sequence[int], *, layer: int, seed: int
) -> dict[str, Any]:
    """One random latent for each picked one: the control that shows what picking was worth.

    Matched in the decile of the firing rate on forget and on retain items and in decoder norm, and drawn
    from the ten that come nearest in both rates; where no free latent shares both deciles, the nearest
    deciles that have one serve.

    Args:
        table: `contrast_table` of the autoencoder.
        features: the picked latents.
        layer: their layer.
        seed: another seed, another set.

    Returns:
        As `pick_contrast`, with `matched_to` and `decile_distance` (0 is an exact match) for each.

    Raises:
        InputError: fewer free latents that ever fire than features.
    """
    rng = np.random.default_rng(seed_from("random features", seed, layer))
    rates = table[["rate_forget", "rate_retain"]].to_numpy()
    norms = table["decoder_norm"].to_numpy()
    alive: NDArray[np.bool_] = np.asarray((rates > 0).any(axis=1))
    deciles = _deciles(rates, alive)
    free = alive.copy()
    free[list(features)] = False
    if free.sum() < len(features):
        raise InputError(
            f"features: {free.sum()} latents of layer {layer} are left to match {len(features)}. "
            "Lower the number of features."
        )
    chosen: list[int] = []
    distances: list[int] = []
    for feature in features:
        distance = np.abs(deciles - deciles[feature]).max(axis=1)
        distance[np.abs(norms / norms[feature] - 1) > NORM_TOLERANCE] += DECILES
        nearest = int(distance[free].min())
        latent = int(rng.choice(_closest(rates, feature, np.flatnonzero(free & (distance == nearest)))))
        free[latent] = False
        chosen.append(latent)
        distances.append(nearest)
    picked = table.loc[chosen]
    return {
        "picker": "random",
        "layer": layer,
        "mode": "exact",
        "features": chosen,
        "scores": picked["score"].tolist(),
        "rate_forget": picked["rate_forget"].tolist(),
        "rate_retain": picked["rate_retain"].tolist(),
        "matched_to": [int(feature) for feature in features],
        "decile_distance": distances,
        "seed": seed,
    }


def _contrast(
    items: Mapping[str, Moments], forget: Sequence[str], retain: Sequence[str]
) -> NDArray[np.float64]:
    gain: NDArray[np.float64] = np.mean([items[language].mean for language in forget], axis=0)
    gain = gain - np.mean([items[language].mean for language in retain], axis=0)
    variance = np.mean([items[language].variance for language in [*forget, *retain]], axis=0)
    return np.divide(gain, np.sqrt(variance), out=np.zeros_like(gain), where=variance > 0)


def _top(score: NDArray[np.float64], top_k: int) -> list[int]:
    order = np.lexsort((np.arange(len(score)), -score))[:top_k]
    return [int(latent) for latent in order if score[latent] > 0]


def _stability(
    statistics: Mapping[str, LatentStatistics], forget: Sequence[str], retain: Sequence[str], top_k: int
) -> float:
    picks: list[set[int]] = []
    for half in range(HALVES):
        moments = {language: statistics[language].halves[half] for language in [*forget, *retain]}
        picks.append(set(_top(_contrast(moments, forget, retain), top_k)))
    union = picks[0] | picks[1]
    return len(picks[0] & picks[1]) / len(union) if union else 0.0


def _closest(rates: NDArray[np.float64], feature: int, candidates: NDArray[np.intp]) -> NDArray[np.intp]:
    """The candidates nearest to a latent in both firing rates: the highest decile spans a factor of ten."""
    floor = 1e-4
    gap = np.abs(np.log((rates[candidates] + floor) / (rates[feature] + floor))).max(axis=1)
    return candidates[np.argsort(gap, kind="stable")[:CHOICES]]


def _deciles(rates: NDArray[np.float64], alive: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Decile 0 to 9 of each firing rate among latents that ever fire, [latents, 2]."""
    # Every job that loads an arm imports this module; scipy.stats alone takes half a second.
    from scipy.stats import rankdata

    deciles = np.zeros(rates.shape, dtype=np.int64)
    share = rankdata(rates[alive], axis=0) / max(int(alive.sum()), 1)
    deciles[alive] = np.ceil(share * DECILES).astype(np.int64) - 1
    return deciles
