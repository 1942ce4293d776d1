"""Experiments drawn from a known model: clustered items, arms whose seeds err alike, no table of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from mmie.statistics.cells import Cell, Cells

METRICS = ("leak", "correct", "gibberish")
ROLES = {
    "forget": ["hi", "hi_Latn"],
    "forget_native": ["hi"],
    "forget_other_scripts": ["hi_Latn"],
    "retain": ["en"],
    "neighbours": ["ur"],
    "kept": ["en", "ur"],
}


@dataclass(frozen=True)
class Truth:
    """Rates of an arm: answers on forget languages, on kept ones, gibberish; its runs and its noise.

    `noise` is the size of what the arm changes at random, in standard deviations of an item's
    difficulty; `shared` the part of it that its seeds have in common.
    """

    forget: float = 0.3
    kept: float = 0.9
    gibberish: float = 0.0
    seeds: int = 3
    noise: float = 1.5
    shared: float = 0.7


def simulated_cells(
    arms: Mapping[str, Truth], rng: np.random.Generator, *, clusters: int = 12, items: int = 4
) -> tuple[Cells, Cells]:
    """Evaluation and attack cells. Base and oracle are arms like the others, with noise 0 in the base.

    An item is solved when its difficulty plus the arm's noise lies below the quantile of the arm's
    rate, so that rates hold exactly in expectation. Difficulty and noise have a part of the cluster
    (0.3 and 0.5 of their variance), which all languages share.
    """
    n = clusters * items
    ids = tuple(f"c{i // items:03d}/{i % items}" for i in range(n))
    groups = tuple(f"c{i // items:03d}" for i in range(n))

    def scatter(of_cluster: np.ndarray, share: float) -> np.ndarray:
        spread = np.repeat(of_cluster, items)
        return np.sqrt(share) * spread + np.sqrt(1 - share) * rng.normal(size=n)

    def cluster() -> np.ndarray:
        return rng.normal(size=clusters)

    difficulty = cluster()
    own = {arm: [cluster(), *(cluster() for _ in range(truth.seeds))] for arm, truth in arms.items()}
    cells: Cells = {}
    attacked: Cells = {}
    places = [(code, name) for code in ROLES["forget"] for name in ("test", "mixed", "relearn")]
    places += [(code, "test") for code in ROLES["kept"]]
    for language, name in places:
        latent = scatter(difficulty, 0.3)
        target = language in ROLES["forget"]
        scores = {}
        for arm, truth in arms.items():
            common = scatter(own[arm][0], 0.5)
            runs = []
            for seed in range(truth.seeds):
                noise = np.sqrt(truth.shared) * common
                noise = noise + np.sqrt(1 - truth.shared) * scatter(own[arm][1 + seed], 0.5)
                position = (latent + truth.noise * noise) / np.hypot(1.0, truth.noise)
                solved = position < norm.ppf(truth.forget if target else truth.kept)
                babble = ~solved & (rng.random(n) < truth.gibberish)
                runs.append(np.stack([solved, solved, babble], axis=1).astype(float))
            scores[arm] = np.stack(runs, axis=1)
        seeds = {arm: tuple(range(truth.seeds)) for arm, truth in arms.items()}
        cell = Cell(language, name, ids, groups, METRICS, scores, seeds)
        (attacked if name == "relearn" else cells)[language, name] = cell
    return cells, attacked
