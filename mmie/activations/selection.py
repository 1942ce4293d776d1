"""Choose layers from their scores: by ranks, with ties, stability and the reason in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

from mmie.activations.scoring import ScoringOptions, score_layers
from mmie.activations.similarity import SIMILARITIES
from mmie.activations.storage import load_sentences
from mmie.errors import InputError
from mmie.io import seed_from

Method = Literal["specific", "shared", "middle", "random"]
SATURATED = 0.999
UNSTABLE = 0.5
"""Selection frequency or Kendall's tau below this marks a choice as unstable."""


@dataclass(frozen=True)
class SelectionRules:
    """Which layers may be chosen together."""

    exclude_first: int | None = None
    """Blocks at the bottom that are never chosen; None: two, or one in models below 8 blocks."""
    exclude_last: int | None = None
    """Blocks at the top that are never chosen; None: one, none in models below 4 blocks."""
    gap: int | None = None
    """Smallest distance of chosen layers; None: 2, or 1 where 2 leaves too few layers."""
    replace_unstable: bool = True
    """Take the middle layers when the ranking does not hold up on other halves of the items."""


def select(
    scores: pd.DataFrame,
    top_k: int,
    *,
    method: Method = "specific",
    rules: SelectionRules | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The chosen layers and why.

    `shared` ranks layers by the similarity of the languages (mean rank of excess CKA, Procrustes and
    neuron correlation); `specific` by the mean of the probe's selectivity rank and the rank of
    dissimilarity. Components without spread over layers are dropped by name. Tied layers go to the
    lower index, never to input order. `middle` and `random` are controls.

    Args:
        scores: table of `score_layers`.
        top_k: how many layers.
        method: what makes a layer good.
        rules: which layers may be chosen together.
        seed: of the random control.

    Returns:
        `layers`, `method`, `used` (what decided: the method, or "middle"), `scores` and `frequency` by
        layer, `components` (kept, or why dropped), `kendall_tau`, `stable`, `tied`, `reasons`.

    Raises:
        InputError: no component left, or not enough layers under the rules.
    """
    rules = rules or SelectionRules()
    layers = sorted(int(layer) for layer in scores["layer"].unique())
    reasons: list[str] = []
    candidates, gap = _candidates(layers, top_k, rules, reasons)
    chosen_fixed = _fixed(candidates, layers, top_k, gap, method, seed)
    if chosen_fixed is not None:
        return {
            "layers": chosen_fixed,
            "method": method,
            "used": method,
            "candidates": candidates,
            "reasons": [*reasons, f"{method} layers, whatever their scores"],
        }
    components = _components(scores, layers, method)
    if "used" not in components.values():
        return _without_evidence(components, method, candidates, layers, top_k, gap, rules, reasons)
    ranked = _combine(scores, layers, method, components)
    full, halves = ranked[0], ranked[1:]
    tied = _tied_with(full, halves, layers)
    chosen = _pick(full, tied, layers, candidates, top_k, gap)
    frequency = _frequencies(halves, layers, candidates, top_k, gap)
    tau = _agreement(halves)
    stable = tau >= UNSTABLE and all(frequency[layer] >= UNSTABLE for layer in chosen)
    used: str = method
    if not stable:
        reasons.append(
            f"unstable: Kendall's tau {tau:.2f} between halves of the items, selection frequency "
            + ", ".join(f"{frequency[layer]:.2f} of layer {layer}" for layer in chosen)
        )
        if rules.replace_unstable:
            chosen, used = _middle(candidates, layers, top_k, gap), "middle"
            reasons.append("the middle layers are used instead")
    return {
        "layers": chosen,
        "method": method,
        "used": used,
        "candidates": candidates,
        "scores": {str(layer): float(full[at]) for at, layer in enumerate(layers)},
        "frequency": {str(layer): frequency[layer] for layer in layers},
        "components": components,
        "kendall_tau": tau,
        "stable": stable,
        "tied": {str(layer): tied[layer] for layer in chosen},
        "reasons": reasons,
    }


def select_layers(
    root: str | Path,
    *,
    forget: Sequence[str],
    others: Sequence[str],
    top_k: int = 1,
    method: Method = "specific",
    scoring: ScoringOptions | None = None,
    rules: SelectionRules | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score the stored FIT sentences of all languages and select: (scores, selected).

    Methods that look at no score ("middle", "random") need no parallel items; their table names the
    layers and holds no numbers.
    """
    seed = scoring.seed if scoring else 0
    sentences, items = load_sentences(root, [*forget, *others], "fit")
    if method in ("middle", "random"):
        scores = pd.DataFrame({"layer": list(next(iter(sentences.values())))})
    else:
        scores = score_layers(sentences, items, forget=forget, options=scoring)
    return scores, select(scores, top_k, method=method, rules=rules, seed=seed)


def _candidates(
    layers: list[int], top_k: int, rules: SelectionRules, reasons: list[str]
) -> tuple[list[int], int]:
    """Layers that may be chosen, and their smallest distance."""
    count = len(layers)
    first, last = rules.exclude_first, rules.exclude_last
    if first is None:
        first = 2 if count >= 8 else int(count >= 4)
    if last is None:
        last = int(count >= 4)
    candidates = layers[first : count - last]
    if first or last:
        reasons.append(f"first {first} and last {last} of {count} blocks are excluded")
    gap = rules.gap if rules.gap is not None else 2
    if rules.gap is None and _room(candidates, gap) < top_k <= len(candidates):
        gap = 1
        reasons.append("gap between layers relaxed to 1: too few blocks for 2")
    if _room(candidates, gap) < top_k:
        raise InputError(
            f"layers.top: {top_k} layers at distance {gap} do not fit into blocks {candidates}. "
            "Choose fewer layers."
        )
    return candidates, gap


def _room(candidates: list[int], gap: int) -> int:
    """Most layers that fit at the distance."""
    count, last = 0, None
    for layer in candidates:
        if last is None or layer - last >= gap:
            count, last = count + 1, layer
    return count


def _fixed(
    candidates: list[int], layers: list[int], top_k: int, gap: int, method: str, seed: int
) -> list[int] | None:
    """The choice of methods that do not look at scores."""
    if method == "middle":
        return _middle(candidates, layers, top_k, gap)
    if method == "random":
        order = np.random.default_rng(seed_from("random layers", seed)).permutation(candidates)
        return _greedy([int(layer) for layer in order], top_k, gap, candidates)
    return None


def _middle(candidates: list[int], layers: list[int], top_k: int, gap: int) -> list[int]:
    centre = layers[len(layers) // 2]
    order = sorted(candidates, key=lambda layer: (abs(layer - centre), layer))
    return _greedy(order, top_k, gap, candidates)


def _greedy(order: Sequence[int], top_k: int, gap: int, candidates: list[int]) -> list[int]:
    """The first layers of the order that keep the distance and leave room for the rest."""
    chosen: list[int] = []
    for layer in order:
        if len(chosen) < top_k and _fits(chosen, layer, top_k, gap, candidates):
            chosen.append(layer)
    return sorted(chosen)


def _without_evidence(
    components: dict[str, str],
    method: str,
    candidates: list[int],
    layers: list[int],
    top_k: int,
    gap: int,
    rules: SelectionRules,
    reasons: list[str],
) -> dict[str, Any]:
    """The middle layers, by name, when no score tells layers apart; an error where that is not wanted."""
    if not rules.replace_unstable:
        raise InputError(
            f"layers: no component tells layers apart ({components}). Set layers.method: middle."
        )
    return {
        "layers": _middle(candidates, layers, top_k, gap),
        "method": method,
        "used": "middle",
        "candidates": candidates,
        "components": components,
        "stable": False,
        "reasons": [*reasons, "no component tells layers apart: the middle layers are used instead"],
    }


def _fits(chosen: list[int], layer: int, top_k: int, gap: int, candidates: list[int]) -> bool:
    if any(abs(layer - other) < gap for other in chosen):
        return False
    together = [*chosen, layer]
    free = [c for c in candidates if all(abs(c - other) >= gap for other in together)]
    return _room(free, gap) >= top_k - len(together)


def _components(scores: pd.DataFrame, layers: list[int], method: str) -> dict[str, str]:
    """What each component does: "used", or why it is dropped."""
    wanted = list(SIMILARITIES) if method == "shared" else [*SIMILARITIES, "selectivity"]
    verdicts = {}
    for name in wanted:
        part = scores[scores["component"] == name]
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
        return f"dropped: range over layers {spread:.3g} is below two standard errors ({error:.3g})"
    return "used"


def _combine(
    scores: pd.DataFrame, layers: list[int], method: str, components: Mapping[str, str]
) -> NDArray[np.float64]:
    """Combined score of each layer, higher is better: [1 + half-samples, layers]; row 0 is full."""
    used = [name for name, verdict in components.items() if verdict == "used"]
    alike = [_ranks(scores, name, layers) for name in used if name != "selectivity"]
    parts = []
    if alike:
        mean = np.mean(alike, axis=0)
        parts.append(mean if method == "shared" else len(layers) + 1 - mean)
    if "selectivity" in used:
        parts.append(_ranks(scores, "selectivity", layers))
    return np.asarray(np.mean(parts, axis=0))


def _ranks(scores: pd.DataFrame, name: str, layers: list[int]) -> NDArray[np.float64]:
    """Rank of each layer, averaged over pairs of languages: [1 + half-samples, layers]."""
    part = scores[scores["component"] == name]
    ranks = []
    for _, pair in part.groupby(["language_a", "language_b"]):
        pair = pair.set_index("layer").loc[layers]
        values = np.column_stack([pair["excess"], np.stack(pair["half_samples"].tolist())])
        ranks.append(rankdata(values, axis=0).T)
    return np.asarray(np.mean(ranks, axis=0))


def _tied_with(
    full: NDArray[np.float64], halves: NDArray[np.float64], layers: list[int]
) -> dict[int, list[int]]:
    """For each layer, those whose difference to it over the half-samples includes 0."""
    tied = {}
    for at, layer in enumerate(layers):
        low, high = np.quantile(halves[:, [at]] - halves, [0.025, 0.975], axis=0)
        even = (low <= 0) & (high >= 0) | np.isclose(full, full[at])
        tied[layer] = [other for other, same in zip(layers, even, strict=True) if same and other != layer]
    return tied


def _pick(
    full: NDArray[np.float64],
    tied: Mapping[int, list[int]],
    layers: list[int],
    candidates: list[int],
    top_k: int,
    gap: int,
) -> list[int]:
    """Best first; the lowest of the layers tied with the best."""
    score = dict(zip(layers, full, strict=True))
    chosen: list[int] = []
    while len(chosen) < top_k:
        open_ = [c for c in candidates if _fits(chosen, c, top_k, gap, candidates)]
        best = max(open_, key=lambda layer: (score[layer], -layer))
        chosen.append(min([best, *(layer for layer in tied[best] if layer in open_)]))
    return sorted(chosen)


def _frequencies(
    halves: NDArray[np.float64], layers: list[int], candidates: list[int], top_k: int, gap: int
) -> dict[int, float]:
    """Share of half-samples on which each layer is chosen."""
    counts = dict.fromkeys(layers, 0)
    for draw in halves:
        score = dict(zip(layers, draw, strict=True))
        order = sorted(candidates, key=lambda layer: (-score[layer], layer))
        for layer in _greedy(order, top_k, gap, candidates):
            counts[layer] += 1
    return {layer: count / len(halves) for layer, count in counts.items()}


def _agreement(halves: NDArray[np.float64]) -> float:
    """Mean Kendall's tau of the layers' ranking between disjoint halves; 0 where it is undefined."""
    taus = [float(kendalltau(halves[at], halves[at + 1]).statistic) for at in range(0, len(halves) - 1, 2)]
    return float(np.mean([tau if np.isfinite(tau) else 0.0 for tau in taus]))
