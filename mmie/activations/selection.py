"""Choose layers from their scores: by ranks, with ties, stability and the reason in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

from mmie.activations.placement import Placement, SelectionRules, placement
from mmie.activations.scoring import ScoringOptions, score_layers
from mmie.activations.similarity import SIMILARITIES
from mmie.activations.storage import depth_of, load_sentences
from mmie.errors import InputError

Method = Literal["specific", "shared", "middle", "random"]
SATURATED = 0.999
UNSTABLE = 0.5
"""Selection frequency or Kendall's tau below this marks a choice as unstable."""


@dataclass(frozen=True)
class Weights:
    """What each score counts in the ranking; 0 leaves it out."""

    cka: float = 1.0
    """Of the three similarities, among themselves."""
    procrustes: float = 1.0
    anc: float = 1.0
    similarity: float = 1.0
    """Of their mean rank, against the probe; read by `specific` alone."""
    selectivity: float = 1.0
    """Of the probe; read by `specific` alone."""


@dataclass(frozen=True)
class Combination:
    """How scores and half-samples become one choice."""

    weights: Weights = field(default_factory=Weights)
    combine: Literal["average", "vote"] = "average"
    """`average`: the highest mean rank over half-samples; `vote`: the layers that win most half-samples."""


def select(
    scores: pd.DataFrame,
    top_k: int,
    *,
    method: Method = "specific",
    combination: Combination | None = None,
    rules: SelectionRules | None = None,
    blocks: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The chosen layers and why.

    `shared` ranks layers by the similarity of the languages (mean rank of excess CKA, Procrustes and
    neuron correlation); `specific` by the mean of the probe's selectivity rank and the rank of
    dissimilarity. Means are weighted by `combination`. Components without spread over layers are dropped
    by name. `middle` and `random` look at no score.

    Every half-sample ranks the layers. By `average` the layer with the highest mean rank is taken, or the
    lowest of the layers tied with it: those whose difference to it over the half-samples includes 0. The
    frequency of a layer is the share of half-samples on which the same rule, ties included, takes it; a
    tie of two layers is therefore stable. By `vote` each half-sample votes for its own best layers, the
    lower of equal ones; the layers with most votes are taken, the lower of equal ones, and the frequency
    of a layer is its share of the votes. Input order never decides.

    Args:
        scores: table of `score_layers`.
        top_k: how many layers.
        method: what makes a layer good.
        combination: weights of the components, and what half-samples decide.
        rules: which layers may be chosen together.
        blocks: blocks of the model; None where the last one has scores.
        seed: of the random control.

    Returns:
        `layers`, `method`, `used` (what decided: the method, or "middle"), `combine`, `candidates` and
        `gap` (what could have been chosen), `scores` (mean rank over half-samples) and `frequency` by layer,
        `components` (kept, or why dropped), `kendall_tau`, `stable`, `tied`, `reasons`.

    Raises:
        InputError: no component left, or not enough layers under the rules.
    """
    rules, combination = rules or SelectionRules(), combination or Combination()
    layers = sorted(int(layer) for layer in scores["layer"].unique())
    place, reasons = placement(layers, top_k, rules, blocks=blocks)
    found = {"method": method, "candidates": list(place.candidates), "gap": place.gap}
    if method in ("middle", "random"):
        return {
            **found,
            "layers": place.middle() if method == "middle" else place.random(seed),
            "used": method,
            "reasons": [*reasons, f"{method} layers, whatever their scores"],
        }
    components = _components(scores, layers, method, combination.weights)
    if "used" not in components.values():
        return found | _without_evidence(components, place, rules, reasons)
    ranked = _combine(scores, layers, method, components, combination.weights)
    vote = combination.combine == "vote"
    average = ranked.mean(axis=0)
    tied = {layer: [] for layer in layers} if vote else _tied_with(ranked, layers)
    frequency = _frequencies(ranked, tied, layers, place)
    if vote:
        chosen = place.first(sorted(place.candidates, key=lambda layer: (-frequency[layer], layer)))
    else:
        chosen = _pick(average, tied, layers, place)
    tau = _agreement(ranked)
    stable = tau >= UNSTABLE and all(frequency[layer] >= UNSTABLE for layer in chosen)
    used: str = method
    if not stable:
        reasons.append(
            f"unstable: Kendall's tau {tau:.2f} between halves of the items, selection frequency "
            + ", ".join(f"{frequency[layer]:.2f} of layer {layer}" for layer in chosen)
        )
        if rules.replace_unstable:
            chosen, used = place.middle(), "middle"
            reasons.append("the middle layers are used instead")
    return {
        **found,
        "layers": chosen,
        "used": used,
        "combine": combination.combine,
        "scores": {str(layer): float(average[at]) for at, layer in enumerate(layers)},
        "frequency": {str(layer): frequency[layer] for layer in layers},
        "components": components,
        "kendall_tau": tau,
        "stable": stable,
        "tied": {str(layer): tied[layer] for layer in chosen},
        "reasons": reasons,
    }


def select_layers(
    folders: Mapping[str, str | Path],
    *,
    forget: Sequence[str],
    top_k: int = 1,
    method: Method = "specific",
    combination: Combination | None = None,
    scoring: ScoringOptions | None = None,
    rules: SelectionRules | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score the stored FIT sentences of all languages and select: (scores, selected).

    `folders` has the activations of each language: the forget languages and those they are compared with.
    Methods that look at no score ("middle", "random") need no parallel items; their table names the
    layers and holds no numbers.
    """
    seed = scoring.seed if scoring else 0
    sentences, items = load_sentences(folders, "fit")
    if method in ("middle", "random"):
        scores = pd.DataFrame({"layer": list(next(iter(sentences.values())))})
    else:
        scores = score_layers(sentences, items, forget=forget, options=scoring)
    blocks = depth_of(next(iter(folders.values())))
    return scores, select(
        scores, top_k, method=method, combination=combination, rules=rules, blocks=blocks, seed=seed
    )


def _without_evidence(
    components: dict[str, str], place: Placement, rules: SelectionRules, reasons: list[str]
) -> dict[str, Any]:
    """The middle layers, by name, when no score tells layers apart; an error where that is not wanted."""
    if not rules.replace_unstable:
        raise InputError(
            f"layers: no component tells layers apart ({components}). Set layers.method: middle."
        )
    return {
        "layers": place.middle(),
        "used": "middle",
        "components": components,
        "stable": False,
        "reasons": [*reasons, "no component tells layers apart: the middle layers are used instead"],
    }


def _components(scores: pd.DataFrame, layers: list[int], method: str, weights: Weights) -> dict[str, str]:
    """What each component does: "used", or why it is dropped."""
    wanted = list(SIMILARITIES) if method == "shared" else [*SIMILARITIES, "selectivity"]
    unread = method == "specific" and weights.similarity == 0
    verdicts = {}
    for name in wanted:
        part = scores[scores["component"] == name]
        if getattr(weights, name) == 0 or (unread and name in SIMILARITIES):
            verdicts[name] = "dropped: weight 0"
        else:
            verdicts[name] = _verdict(name, part, layers)
    return verdicts


def _verdict(name: str, part: pd.DataFrame, layers: list[int]) -> str:
    if part.empty or not np.isfinite(part["excess"]).all():
        return "dropped: undefined at some layer"
    if (part["value"] >= SATURATED).all():
        return "dropped: at its maximum at every layer"
    means = part.groupby("layer")["excess"].mean().loc[layers].to_numpy()
    draws = np.stack(
        [np.stack(group["half_samples"].tolist()).mean(axis=0) for _, group in part.groupby("layer")]
    )
    error = float(np.median(draws.std(axis=1, ddof=1)))
    spread = float(means.max() - means.min())
    if spread < 2 * error:
        return f"dropped: range over layers {spread:.3g} is below two standard errors of {error:.3g}"
    return "used"


def _combine(
    scores: pd.DataFrame, layers: list[int], method: str, components: Mapping[str, str], weights: Weights
) -> NDArray[np.float64]:
    """Combined score of each layer on each half-sample, higher is better: [half-samples, layers]."""
    used = [name for name, verdict in components.items() if verdict == "used"]
    alike = [name for name in used if name != "selectivity"]
    parts, counts = [], []
    if alike:
        ranks = [_ranks(scores, name, layers) for name in alike]
        mean = np.average(ranks, axis=0, weights=[getattr(weights, name) for name in alike])
        parts.append(mean if method == "shared" else len(layers) + 1 - mean)
        counts.append(1.0 if method == "shared" else weights.similarity)
    if "selectivity" in used:
        parts.append(_ranks(scores, "selectivity", layers))
        counts.append(weights.selectivity)
    return np.asarray(np.average(parts, axis=0, weights=counts))


def _ranks(scores: pd.DataFrame, name: str, layers: list[int]) -> NDArray[np.float64]:
    """Rank of each layer on each half-sample, averaged over pairs of languages: [half-samples, layers]."""
    part = scores[scores["component"] == name]
    ranks = []
    for _, pair in part.groupby(["language_a", "language_b"]):
        pair = pair.set_index("layer").loc[layers]
        ranks.append(rankdata(np.stack(pair["half_samples"].tolist()), axis=0).T)
    return np.asarray(np.mean(ranks, axis=0))


def _tied_with(ranked: NDArray[np.float64], layers: list[int]) -> dict[int, list[int]]:
    """For each layer, those whose difference to it over the half-samples includes 0."""
    tied, average = {}, ranked.mean(axis=0)
    for at, layer in enumerate(layers):
        low, high = np.quantile(ranked[:, [at]] - ranked, [0.025, 0.975], axis=0)
        even = (low <= 0) & (high >= 0) | np.isclose(average, average[at])
        tied[layer] = [other for other, same in zip(layers, even, strict=True) if same and other != layer]
    return tied


def _pick(
    score: NDArray[np.float64], tied: Mapping[int, list[int]], layers: list[int], place: Placement
) -> list[int]:
    """Best first; the lowest of the layers tied with the best."""
    by_layer = dict(zip(layers, score, strict=True))
    chosen: list[int] = []
    while len(chosen) < place.count:
        free = place.open(chosen)
        best = max(free, key=lambda layer: (by_layer[layer], -layer))
        chosen.append(min([best, *(layer for layer in tied[best] if layer in free)]))
    return sorted(chosen)


def _frequencies(
    ranked: NDArray[np.float64], tied: Mapping[int, list[int]], layers: list[int], place: Placement
) -> dict[int, float]:
    """Share of half-samples on which each layer is picked, with the ties of the whole sample."""
    counts = dict.fromkeys(layers, 0)
    for draw in ranked:
        for layer in _pick(draw, tied, layers, place):
            counts[layer] += 1
    return {layer: count / len(ranked) for layer, count in counts.items()}


def _agreement(halves: NDArray[np.float64]) -> float:
    """Mean Kendall's tau of the layers' ranking between disjoint halves; 0 where it is undefined."""
    taus = [float(kendalltau(halves[at], halves[at + 1]).statistic) for at in range(0, len(halves) - 1, 2)]
    return float(np.mean([tau if np.isfinite(tau) else 0.0 for tau in taus]))
