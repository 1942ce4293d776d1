"""A made-up experiment, analysed by the real statistics: every number in it is synthetic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from mmie.configuration import DEFAULT_FILE, read_configuration
from mmie.report.inputs import ReportInputs, choose_samples
from mmie.statistics.aggregate import aggregate
from mmie.statistics.options import Options

# (leak on forget languages, accuracy on kept ones, gibberish): synthetic.
RATES = {
    "base": (0.95, 0.95, 0.0),
    "oracle": (0.05, 0.94, 0.0),
    "oracle_reference": (0.04, 0.95, 0.0),
    "broken": (0.0, 0.0, 0.95),
    "lora-npo": (0.15, 0.95, 0.0),
    "reft-npo": (0.45, 0.90, 0.02),
    "sae-gate": (0.70, 0.80, 0.05),
    "sae-random": (0.94, 0.94, 0.0),
}
SEEDS = {"lora-npo": 3, "reft-npo": 3, "sae-random": 3}
SCRIPTS = {"hi": "Deva", "hi_Latn": "Latn", "en": "Latn", "bn": "Beng", "ur": "Arab", "pa": "Guru"}
TEXTS = {
    "hi": ("भारत की राजभाषा क्या है?", "हिन्दी"),
    "hi_Latn": ("bharat ki rajbhasha kya hai?", "hindi"),
    "en": ("What is the official language of India?", "Hindi"),
    "bn": ("ভারতের সরকারি ভাষা কী?", "হিন্দি"),
    "ur": ("بھارت کی سرکاری زبان کیا ہے؟", "ہندی"),
    "pa": ("ਭਾਰਤ ਦੀ ਸਰਕਾਰੀ ਭਾਸ਼ਾ ਕੀ ਹੈ?", "ਹਿੰਦੀ"),
}
SPLITS = (("test", "direct"), ("dev", "direct"), ("holdout", "direct"), ("test", "mixed"))
CLUSTERS, STEPS = 20, (0, 1, 5, 10, 25, 50)


def evaluation_rows() -> pd.DataFrame:
    rows = []
    for arm, (leak, correct, gibberish) in RATES.items():
        for seed in range(SEEDS.get(arm, 1)):
            for language, (prompt, answer) in TEXTS.items():
                # Paired: an item's difficulty is the same for every arm.
                difficulty = np.random.default_rng(7).random((len(SPLITS), CLUSTERS, 2))
                rate = leak if language.startswith("hi") else correct
                if language.startswith("hi"):
                    rate = max(0.0, rate - 0.03 * seed)
                for number, (split, kind) in enumerate(SPLITS):
                    for cluster in range(CLUSTERS):
                        for item in range(2):
                            hit = float(difficulty[number, cluster, item] < rate)
                            broken = float(not hit and difficulty[number, cluster, item] > 1 - gibberish)
                            state = "correct" if hit else "empty_gibberish" if broken else "wrong_in_language"
                            rows.append({
                                "arm": arm, "seed": seed, "language": language, "split": split,
                                "kind": kind, "example_id": f"{split}-{kind}-{cluster}/q{item}",
                                "group": f"{split}{cluster}",
                                "relation": ("language", "currency")[cluster % 2],
                                "template_split": "trained",
                                "script": SCRIPTS[language], "prompt": prompt, "reference": answer,
                                "generation": answer if hit else "?" * 9, "answer_state": state,
                                "leak": hit, "correct": hit, "gibberish": broken,
                                "target_language": 0.0 if broken else 1.0, "bits_per_byte": 1.5 - rate,
                            })  # fmt: skip
    table = pd.DataFrame(rows)
    direct = table[(table["split"] == "test") & (table["kind"] == "direct")]
    reworded = direct.assign(template_split="held_out", example_id="new-" + direct["example_id"])
    return pd.concat([table, reworded], ignore_index=True)


def attack_rows(evaluation: pd.DataFrame) -> pd.DataFrame:
    part = evaluation[
        (evaluation["split"] == "test")
        & (evaluation["kind"] == "direct")
        & (evaluation["template_split"] == "trained")
        & evaluation["language"].isin(["hi", "hi_Latn"])
    ]
    frames = []
    for step in STEPS:
        gain = step / 120 * (part["arm"] != "broken")
        draw = np.random.default_rng(step).random(len(part))
        frames.append(
            part.assign(attack="relearn", step=step, leak=np.maximum(part["leak"], (draw < gain) * 1.0))
        )
    return pd.concat(frames, ignore_index=True)


def layer_scores() -> pd.DataFrame:
    rows = []
    for component, height in (("cka", 0.5), ("procrustes", 0.3), ("anc", 0.2), ("selectivity", 0.6)):
        pairs = [("hi", "en"), ("hi", "bn")] if component != "selectivity" else [("hi+hi_Latn", "")]
        for number, (first, second) in enumerate(pairs):
            for layer in range(6):
                excess = height * np.exp(-((layer - 3) ** 2) / 6) - 0.05 * number
                names = {"component": component, "language_a": first, "language_b": second}
                rows.append({"layer": layer, **names, "excess": float(excess), "value": float(excess) + 0.1})
    return pd.DataFrame(rows)


def sae_quality() -> dict[str, Any]:
    part = {"fvu": 0.11, "l0": 15.2, "dead_share": 0.04, "rows": 4000, "shrinkage": 0.98}
    loss = {"loss_base": 1.0, "loss_sae": 1.1, "loss_zero": 5.0, "loss_recovered": 0.975}
    languages = {"hi": {**part, "supported": True}, "en": {**part, "supported": False}}
    recovered = {"pooled": loss, "hi": loss}
    return {"layer3": {"pooled": part, "languages": languages, "k": 16, "loss_recovered": recovered}}


@pytest.fixture(scope="session")
def synthetic() -> ReportInputs:
    """The whole default experiment with made-up rows."""
    config = read_configuration(yaml.safe_load(DEFAULT_FILE.read_text(encoding="utf-8")))
    evaluation = evaluation_rows()
    summary = aggregate(
        evaluation, attack_rows(evaluation), config.roles, config.model_dump(mode="json")["gates"],
        Options(experiment="synthetic", n_resamples=1000, trained_arms=("lora-npo", "reft-npo")),
    )  # fmt: skip
    return ReportInputs(
        config=config.model_dump(mode="json"),
        gates=summary.gates,
        metrics=summary.metrics,
        tests=summary.tests,
        extras=summary.extras,
        samples=choose_samples(evaluation),
        layers=layer_scores(),
        selected={
            "layers": [3],
            "method": "specific",
            "used": "specific",
            "reasons": ["synthetic"],
            "stable": True,
        },
        sae=sae_quality(),
        data={
            "languages": {
                code: {"provenance": {"generated": 120}, "splits": {"fit": {"rows": 1234, "groups": 60}}}
                for code in TEXTS
            }
        },
        environment={
            "python": "3.11.0",
            "code_version": "0.1.0",
            "packages": {"numpy": "2.4"},
            "config_hash": "c0ffee",
            "hardware": {"machine": "x86_64", "device": "cpu"},
        },
    )


@pytest.fixture
def empty(synthetic: ReportInputs) -> ReportInputs:
    """The same experiment before any arm has rows."""
    calibration = {"calibrated": False, "checks": {}, "reasons": []}
    extras = {
        name: value.iloc[:0] if isinstance(value, pd.DataFrame) else {}
        for name, value in synthetic.extras.items()
    }
    return replace(
        synthetic,
        gates={"experiment": "empty", "arms": {}, "calibration": calibration},
        metrics=synthetic.metrics.iloc[:0],
        tests=synthetic.tests.iloc[:0],
        samples=synthetic.samples.iloc[:0],
        extras=extras,
        layers=pd.DataFrame(), selected={}, sae={}, data={}, environment={},
    )  # fmt: skip
