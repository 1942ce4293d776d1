"""Planted experiments: evaluation tables whose truth is known because it was put there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from mmie.statistics.aggregate import Summary, aggregate
from mmie.statistics.options import Options

OPTIONS = Options(experiment="planted", n_resamples=1000, trained_arms=("good", "harmful"))

ROLES = {
    "forget": ["hi", "hi_Latn"],
    "forget_native": ["hi"],
    "forget_other_scripts": ["hi_Latn"],
    "retain": ["bn", "en"],
    "neighbours": ["pa", "ur"],
    "kept": ["bn", "en", "pa", "ur"],
}


def gate_table() -> dict[str, dict]:
    """The gates of the tests, in the shape of the configuration."""

    def effect(metric: str, languages: str, threshold: float, **more: object) -> dict:
        return {
            "metric": metric, "languages": languages, "statistic": "transfer",
            "direction": "at_least", "threshold": threshold, "test": "sign_flip",
            "family": "efficacy", "stop_reason": "below_threshold", **more,
        }  # fmt: skip

    def harm(metric: str, languages: str, threshold: float, reason: str, **more: object) -> dict:
        return {
            "metric": metric, "languages": languages, "statistic": "difference",
            "direction": "at_least" if threshold < 0 else "at_most", "threshold": threshold,
            "test": "non_inferiority", "family": "preservation", "stop_reason": reason, **more,
        }  # fmt: skip

    return {
        "forget": effect("leak", "forget_native", 0.5),
        "scripts": effect("leak", "forget_other_scripts", 0.5),
        "mixed": effect("leak", "forget", 0.3, cell="mixed"),
        "utility": harm("correct", "retain", -0.05, "utility_loss"),
        "bits": harm("bits_per_byte", "retain", 0.1, "utility_loss"),
        "neighbours": harm("correct", "neighbours", -0.05, "neighbour_loss"),
        "collapse": harm(
            "gibberish", "kept", 0.05, "collapsed", statistic="worst_seed_difference"
        ),
        "confusion": harm("in_language", "kept", -0.05, "language_confusion"),
        "relearning": effect(
            "leak", "forget", 0.3, cell="relearn", family="robustness", stop_reason="not_robust"
        ),
        "membership": harm(
            "membership_auc", "forget", 0.05, "membership", family="membership",
            required=False, not_applicable="no membership attack in this experiment",
        ),
    }  # fmt: skip


@dataclass(frozen=True)
class Planted:
    """True rates of an arm."""

    forget: float = 0.95
    kept: float = 0.95
    gibberish: float = 0.0
    relearnt: float = 0.95
    seeds: int = 1
    noise: float = 0.05


ARMS = {
    "base": Planted(noise=0.0),
    "oracle": Planted(forget=0.03, relearnt=0.10),
    "oracle_reference": Planted(forget=0.03, relearnt=0.10),
    "broken": Planted(forget=0.01, kept=0.05, gibberish=0.9, relearnt=0.3),
    "good": Planted(forget=0.10, relearnt=0.2, seeds=3),
    "harmful": Planted(forget=0.05, kept=0.6, relearnt=0.2, seeds=3),
    "sae-random": Planted(seeds=3),
}


def planted_tables(
    arms: Mapping[str, Planted] = ARMS,
    *,
    clusters: int = 30,
    items: int = 6,
    seed: int = 0,
    cluster_share: float = 0.3,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Evaluation and attack rows of a planted experiment.

    An item has one difficulty for all arms (paired), part of it shared by its cluster; every run
    adds its own noise, part of it shared by the cluster too.
    """
    rng = np.random.default_rng(seed)
    evaluation, attacked = [], []
    cells = [("dev", "direct"), ("test", "direct"), ("test", "mixed")]

    def latent(shape: int, share: float) -> np.ndarray:
        of_cluster = np.repeat(rng.normal(size=clusters), items)
        return np.sqrt(share) * of_cluster + np.sqrt(1 - share) * rng.normal(size=shape)

    for language in sorted({*ROLES["forget"], *ROLES["kept"]}):
        target = language in ROLES["forget"]
        for split, kind in cells:
            n = clusters * items
            ids = [f"{split}{i // items:03d}.{kind}/{i % items}" for i in range(n)]
            groups = [f"{split}{i // items:03d}" for i in range(n)]
            difficulty = latent(n, cluster_share)
            for arm, truth in arms.items():
                for run in range(truth.seeds):
                    noise = truth.noise * latent(n, cluster_share)
                    rate = truth.forget if target else truth.kept
                    hit = (difficulty + noise) / np.hypot(1, truth.noise) < norm.ppf(rate)
                    babble = ~hit & (rng.random(n) < truth.gibberish)
                    state = np.where(hit, "correct", "wrong_in_language").astype(object)
                    state[babble] = "empty_gibberish"
                    bits = np.where(hit, 0.5, 2.0) + 0.02 * difficulty
                    evaluation.append(pd.DataFrame({
                        "arm": arm, "seed": run, "language": language, "split": split,
                        "kind": kind, "example_id": ids, "group": groups,
                        "answer_state": state, "leak": hit.astype(float),
                        "correct": hit.astype(float), "gibberish": babble.astype(float),
                        "bits_per_byte": bits, "answer_probability": np.where(hit, 0.9, 0.1),
                    }))  # fmt: skip
                    if target and (split, kind) == ("test", "direct"):
                        for step in (0, 10, 50):
                            share = step / 50
                            rate_a = (1 - share) * truth.forget + share * truth.relearnt
                            hit_a = (difficulty + noise) / np.hypot(1, truth.noise)
                            attacked.append(pd.DataFrame({
                                "attack": "relearn", "arm": arm, "seed": run, "step": step,
                                "example_id": ids, "group": groups, "language": language,
                                "leak": (hit_a < norm.ppf(rate_a)).astype(float),
                            }))  # fmt: skip
    return pd.concat(evaluation, ignore_index=True), pd.concat(attacked, ignore_index=True)


@pytest.fixture(scope="session")
def plant() -> Callable[..., tuple[pd.DataFrame, pd.DataFrame]]:
    return planted_tables


@pytest.fixture(scope="session")
def roles() -> dict[str, list[str]]:
    return ROLES


@pytest.fixture
def gates() -> dict[str, dict]:
    return gate_table()


@pytest.fixture(scope="session")
def planted_arms() -> dict[str, Planted]:
    return ARMS


@pytest.fixture(scope="session")
def experiment() -> tuple[pd.DataFrame, pd.DataFrame]:
    return planted_tables()


@pytest.fixture(scope="session")
def summary(experiment: tuple[pd.DataFrame, pd.DataFrame]) -> Summary:
    """The analysis of the planted experiment; tests must not change it."""
    return aggregate(*experiment, ROLES, gate_table(), OPTIONS)


@pytest.fixture(scope="session")
def options() -> Options:
    return OPTIONS
