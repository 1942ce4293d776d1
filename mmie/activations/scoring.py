"""Score every layer: how alike the languages are there, and how well a probe tells them apart.

Languages are compared at one layer, on sentence vectors of the same items, with standardised columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmie.activations.probes import ProbeResult, ProbeTask, probe
from mmie.activations.similarity import (
    SIMILARITIES,
    Index,
    Matrix,
    Pair,
    against_chance,
    debiased_cka,
    neuron_correlation,
    permuted_within,
    procrustes,
    retrieval,
)
from mmie.errors import InputError
from mmie.io import seed_from

Sentences = Mapping[str, Mapping[int, NDArray[Any]]]
SMALLEST_STRATUM = 4
HALF_NULL_PAIRINGS = 10
"""Pairings behind the mean of a half-sample's null; its standard deviation is not used."""


@dataclass(frozen=True)
class ScoringOptions:
    """How layers are scored."""

    permutations: int = 1000
    """Pairings behind each null."""
    procrustes_permutations: int = 100
    """Of those, how many also serve Procrustes, which costs most."""
    half_samples: int = 200
    """Half-samples of clusters behind standard errors and stability; rounded up to even."""
    minimum_items: int = 100
    """Fewer parallel items are an error: no score is better than noise."""
    maximum_items: int = 500
    """More are sampled by seed."""
    seed: int = 0


@dataclass(frozen=True)
class ParallelItems:
    """The same items in every language: one a fact, so that rows are independent."""

    rows: dict[str, NDArray[np.int64]]
    """Row of each item among the sentence vectors of a language."""
    cluster: NDArray[np.int64]
    template: NDArray[np.int64]
    stratum: NDArray[np.int64]
    """Template and length decile: chance pairings stay inside."""
    unmatched: dict[str, int]
    """Items of a language that another language lacks."""


def score_layers(
    sentences: Sentences,
    items: Mapping[str, pd.DataFrame],
    *,
    forget: Sequence[str],
    options: ScoringOptions | None = None,
) -> pd.DataFrame:
    """Similarity of each forget language to each other language, and language probes, by layer.

    Args:
        sentences: {language: {layer: [items, width]}}, FIT split.
        items: the items behind the vectors, in order: `example_id`, and `fact_id`, `group`,
            `template_id`, `tokens` where known.
        forget: the forget languages; the others in `sentences` are what they are compared with.
        options: sizes and seed.

    Returns:
        One row a layer, component and pair of languages: `value` (standardised columns),
        `value_unstandardised`, `null_mean`, `null_sd`, `p`, `excess`, `se`, `half_samples` (the excess
        on each half-sample; entries 2i and 2i+1 are disjoint halves), `n_items`, `constant_neurons`,
        `estimator`.

    Raises:
        InputError: no language to compare, unpaired or too few items.
    """
    options = options or ScoringOptions()
    others = [language for language in sentences if language not in forget]
    if not others or not all(language in sentences for language in forget) or not forget:
        raise InputError(
            "layers: at least one forget and one other language with activations are needed. "
            "Add a language to retain or neighbours."
        )
    parallel = align_items(items, options)
    halves = _half_samples(parallel.cluster, options)
    rows: list[dict[str, Any]] = []
    for layer in next(iter(sentences.values())):
        vectors = {
            language: np.asarray(by_layer[layer], dtype=np.float64)[parallel.rows[language]]
            for language, by_layer in sentences.items()
        }
        for first in sorted(forget):
            for second in sorted(others):
                found = _score_pair(vectors[first], vectors[second], parallel, halves, options)
                rows += [{"layer": layer, "language_a": first, "language_b": second, **row} for row in found]
        read = _score_probe(vectors, set(forget), parallel, halves, options)
        rows.append({"layer": layer, "language_a": "+".join(sorted(forget)), "language_b": "", **read})
    table = pd.DataFrame(rows)
    table["n_items"] = len(parallel.cluster)
    table["n_unmatched"] = sum(parallel.unmatched.values())
    return table.sort_values(["component", "language_a", "language_b", "layer"], ignore_index=True)


def align_items(items: Mapping[str, pd.DataFrame], options: ScoringOptions) -> ParallelItems:
    """Join languages on the item id and keep one item of each fact, chosen by seed.

    Several sentences of one fact are not independent rows: they alone make unrelated spaces look alike.

    Raises:
        InputError: an id that comes twice in a language, too few items left.
    """
    tables = {}
    for language, table in items.items():
        if table["example_id"].duplicated().any():
            twice = table["example_id"][table["example_id"].duplicated()].iloc[0]
            raise InputError(f"{language}: example_id {twice} comes twice, so rows cannot be paired.")
        tables[language] = table.reset_index(drop=True).set_index("example_id", drop=False)
    shared = sorted(set.intersection(*(set(table.index) for table in tables.values())))
    first = tables[sorted(tables)[0]].loc[shared]
    fact = first.get("fact_id", first["example_id"])
    rng = np.random.default_rng(seed_from("parallel items", options.seed))
    shuffled = pd.Series(fact.to_numpy(), index=shared).iloc[rng.permutation(len(shared))]
    chosen = shuffled[~shuffled.duplicated()].index[: options.maximum_items]
    if len(chosen) < options.minimum_items:
        raise InputError(
            f"layers: {len(chosen)} parallel items in {', '.join(sorted(items))}; at least "
            f"{options.minimum_items} are needed. Add parallel data, or set layers.method: middle."
        )
    names = sorted(chosen)
    first = first.loc[names]
    cluster = first.get("group", first["example_id"])
    template = first.get("template_id", pd.Series("", index=first.index))
    template_code = pd.factorize(template, sort=True)[0]
    lengths = [table.loc[names].get("tokens") for table in tables.values()]
    known = [column.to_numpy() for column in lengths if column is not None]
    length = np.mean(known, axis=0) if known else np.zeros(len(names))
    return ParallelItems(
        rows={language: table.index.get_indexer(pd.Index(names)) for language, table in tables.items()},
        cluster=pd.factorize(cluster, sort=True)[0],
        template=template_code,
        stratum=_strata(template_code, length),
        unmatched={language: len(table) - len(shared) for language, table in tables.items()},
    )


def _strata(template: NDArray[np.int64], length: NDArray[Any]) -> NDArray[np.int64]:
    """Template and length decile; strata too small to permute join their template, then one rest."""
    decile = np.floor(pd.Series(length).rank(pct=True, method="average").to_numpy() * 10 - 1e-9)
    stratum = template * 11 + decile.astype(np.int64)
    for coarser in (template * 11 + 10, np.full_like(template, -1)):
        _, code, counts = np.unique(stratum, return_inverse=True, return_counts=True)
        stratum = np.where(counts[code] < SMALLEST_STRATUM, coarser, stratum)
    return stratum


def _half_samples(cluster: NDArray[np.int64], options: ScoringOptions) -> list[Index]:
    """Random halves of the clusters without replacement, each followed by its complement."""
    rng = np.random.default_rng(seed_from("half-samples", options.seed))
    clusters = np.unique(cluster)
    halves: list[Index] = []
    while len(halves) < options.half_samples:
        inside = np.isin(cluster, rng.permutation(clusters)[: len(clusters) // 2])
        halves += [np.flatnonzero(inside), np.flatnonzero(~inside)]
    return halves


def _score_pair(
    x: Matrix, y: Matrix, parallel: ParallelItems, halves: Sequence[Index], options: ScoringOptions
) -> list[dict[str, Any]]:
    # One generator a pair: every pair and layer is compared under the same pairings.
    rng = np.random.default_rng(seed_from("pairings", options.seed))
    pairings = [permuted_within(parallel.stratum, rng) for _ in range(options.permutations)]
    pair = Pair(x, y)
    nulls = against_chance(pair, pairings, options.procrustes_permutations)
    half_null = _half_null_means(pair, halves, parallel, rng)
    drawn = [pair.subset(half).compare() for half in halves]
    unstandardised = {
        "cka": debiased_cka(x, y),
        "procrustes": procrustes(x, y),
        "anc": neuron_correlation(x, y)[0],
    }
    rows = []
    for name in SIMILARITIES:
        null = nulls[name]
        excess = [(draw[name] - half_null[name]) / (1 - half_null[name]) for draw in drawn]
        rows.append(
            {
                "component": name,
                "estimator": "debiased" if name == "cka" else "plain",
                "value": null.value,
                "value_unstandardised": unstandardised[name],
                "null_mean": null.mean,
                "null_sd": null.sd,
                "p": null.p,
                "excess": null.excess,
                "se": float(np.std(excess, ddof=1)),
                "half_samples": excess,
                "constant_neurons": pair.constant,
            }
        )
    found = retrieval(x, y)
    chance = 1 / len(x)
    rows.append(
        {
            "component": "retrieval",
            "estimator": "check",
            "value": found,
            "value_unstandardised": found,
            "null_mean": chance,
            "excess": (found - chance) / (1 - chance),
        }
    )
    return rows


def _half_null_means(
    pair: Pair, halves: Sequence[Index], parallel: ParallelItems, rng: np.random.Generator
) -> dict[str, float]:
    """Mean similarity of half-samples paired at random: the floor depends on the number of items."""
    drawn = []
    for at in range(HALF_NULL_PAIRINGS):
        half = halves[at % len(halves)]
        drawn.append(pair.subset(half).compare(permuted_within(parallel.stratum[half], rng)))
    return {name: float(np.mean([draw[name] for draw in drawn])) for name in SIMILARITIES}


def _score_probe(
    vectors: Mapping[str, Matrix],
    forget: set[str],
    parallel: ParallelItems,
    halves: Sequence[Index],
    options: ScoringOptions,
) -> dict[str, Any]:
    """Probe of forget against other languages; items, not rows, are held out and resampled."""
    everything = np.arange(len(parallel.cluster))
    full = _probe_on(everything, vectors, forget, parallel, options, folds=4)
    drawn = [_probe_on(half, vectors, forget, parallel, options, folds=2) for half in halves]
    excess = [result.selectivity for result in drawn]
    return {
        "component": "selectivity",
        "estimator": "ridge probe, AUC minus control AUC",
        "value": full.auc,
        "value_unstandardised": full.auc,
        "null_mean": full.control_auc,
        "excess": full.selectivity,
        "se": float(np.std(excess, ddof=1)),
        "half_samples": excess,
    }


def _probe_on(
    chosen: Index,
    vectors: Mapping[str, Matrix],
    forget: set[str],
    parallel: ParallelItems,
    options: ScoringOptions,
    folds: int,
) -> ProbeResult:
    languages = sorted(vectors)
    stacked = np.concatenate([vectors[language][chosen] for language in languages])
    count = len(chosen)
    kinds = int(parallel.template.max()) + 1
    task = ProbeTask(
        positive=np.repeat([language in forget for language in languages], count),
        group=np.tile(parallel.cluster[chosen], len(languages)),
        kind=np.concatenate([at * kinds + parallel.template[chosen] for at in range(len(languages))]),
    )
    rng = np.random.default_rng(seed_from("probe", options.seed))
    return probe(stacked, task, rng, folds=folds)
