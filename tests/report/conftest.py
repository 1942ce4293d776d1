"""A made-up experiment, analysed by the real statistics: every number in it is synthetic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from mmie.configuration import DEFAULT_FILE, read_configuration
from mmie.depth.summary import summarise
from mmie.report.inputs import ReportInputs, choose_samples
from mmie.report.stage_files import dose_rates, leak_rates, steering_rates
from mmie.statistics.aggregate import aggregate
from mmie.statistics.hypotheses import hypotheses
from mmie.statistics.options import Options
from mmie.sweep.choice import choose

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
# Share of the hidden answers that an attack without steps brings back, in every arm alike: synthetic.
GAINS = {"int8": 0.02, "int4": 0.2, "rewrite": 0.1, "steer": 0.3, "detach": 1.0}
ATTACKS = ("relearn", *GAINS)
CALIBRATION = ("oracle", "broken", "sae-random")


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
                            unclear = not hit and not broken and item == 1 and cluster < 2
                            state = "undetermined" if unclear else state
                            known = -2.0 * (1.0 - hit) - difficulty[number, cluster, item]
                            seen = known if split == "test" else -2.0 - difficulty[number, cluster, item]
                            rows.append({
                                "arm": arm, "seed": seed, "language": language, "split": split,
                                "kind": kind, "example_id": f"{split}-{kind}-{cluster}/q{item}",
                                "group": f"{split}{cluster}",
                                "relation": ("language", "currency")[cluster % 2],
                                "template_split": "trained",
                                "script": SCRIPTS[language], "prompt": prompt, "reference": answer,
                                "generation": answer if hit else "?" * 9, "answer_state": state,
                                "leak": hit, "correct": hit, "gibberish": broken,
                                "target_language": float("nan") if unclear else 0.0 if broken else 1.0,
                                "bits_per_byte": 1.5 - rate, "mia_loss": seen, "mia_zlib": seen / 20,
                                "mia_min_k": 2 * seen, "mia_min_k_plus_plus": seen + 1,
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
        frames.append(_attacked(part, "relearn", gain, step))
    for attack, gain in GAINS.items():
        frames.append(_attacked(part, attack, gain * (part["arm"] != "broken"), 0))
    return pd.concat(frames, ignore_index=True)


def _attacked(part: pd.DataFrame, attack: str, gain: pd.Series, step: int) -> pd.DataFrame:
    """More leaks, the same for every arm: items whose draw is below `gain` are given away."""
    draw = np.random.default_rng(step).random(len(part))
    leak = np.maximum(part["leak"], (draw < gain) * 1.0)
    if attack == "detach":
        stays = part["arm"].isin(["oracle", "oracle_reference", "broken"])
        leak = part["leak"].where(stays, 1.0)
    return part.assign(attack=attack, step=step, variant="mean", leak=leak)


def rewrite_rows(evaluation: pd.DataFrame) -> pd.DataFrame:
    """Rows of single rewrites; nobody, the base included, reads `padding`."""
    part = attack_rows(evaluation)
    part = part[part["attack"] == "int8"]
    frames = [part.assign(variant=name, leak=part["leak"] * share)
              for name, share in (("paraphrase", 1.0), ("few_shot", 0.3), ("padding", 0.05))]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def depth_rows() -> pd.DataFrame:
    """Layers 0 to 3 of every arm and seed: the more an arm leaks, the more its states say."""
    rows = []
    for arm, (leak, _, _) in RATES.items():
        for seed in range(SEEDS.get(arm, 1)):
            for layer in range(4):
                values = {
                    "probe_selectivity": leak * layer / 10 + 0.01 * seed,
                    "lens_log_p": -6.0 * (1.0 - leak) * layer / 3,
                    "patched_log_p": -5.0 * (1.0 - leak),
                    "perturbation_effect": -0.01 * leak,
                }
                for measure, value in values.items():
                    rows.append(
                        {"arm": arm, "seed": seed, "layer": layer, "measure": measure, "value": value}
                    )
    return pd.DataFrame(rows)


def picked_latents() -> dict[str, Any]:
    """Two pickers in one layer, of which clamping finds one specific."""
    random = {"random_forget": [0.01] * 20, "random_retain": [0.02] * 20, "forget_limit": 0.01}
    return {"layer3": {
        "picks": {"contrast": [7, 11], "attribution": [7, 13]},
        "without": {"script_invariant": "one written form only"},
        "overlap": {"attribution/contrast": 1 / 3}, "clamp": 9.0, "norm_limit": 50.0,
        "validation": {
            "contrast": {"forget": 0.83, "retain": 0.011, **random, "specific": True},
            "attribution": {"forget": 0.41, "retain": 0.37, **random, "specific": False},
        },
    }}  # fmt: skip


def contexts() -> pd.DataFrame:
    rows = [
        {"layer": 3, "latent": latent, "rank": rank, "code": 5.5 - rank, "language": language,
         "example_id": f"x{rank}", "before": before, "token": token, "after": after}
        for latent in (7, 13)
        for rank, (language, before, token, after) in enumerate(
            [("hi", "भारत की ", "राजभाषा", " क्या है"), ("ur", "بھارت کی ", "سرکاری", " زبان")]
        )
    ]  # fmt: skip
    return pd.DataFrame(rows)


def dose_rows(evaluation: pd.DataFrame) -> pd.DataFrame:
    """DEV rows of one arm at five shares of its strength, and of the base without a share."""
    part = evaluation[(evaluation["arm"] == "base") & (evaluation["split"] == "dev")]
    frames = [part.assign(arm="sae-gate", share=float("nan"), strength=float("nan"))]
    for share in (-0.5, 0.0, 0.5, 1.0, 1.5):
        leak = part["leak"] * (1 - max(0.0, min(1.0, share)) * 0.6)
        frames.append(part.assign(arm="sae-gate", share=share, strength=2 * share, leak=leak))
    return pd.concat(frames, ignore_index=True)


def sweep_table() -> pd.DataFrame:
    trials = [{"trial": f"trial{n}", "number": n, "s_mem": n / 8, "admissible": n < 6} for n in range(8)]
    return pd.DataFrame(trials)


def identifier_errors() -> dict[str, dict[str, Any]]:
    part = {"n": 400, "right": 0.93, "wrong": 0.01, "abstained": 0.06, "false_positives": 0.0004}
    return {language: {"language": language, "script": SCRIPTS[language], **part} for language in TEXTS}


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
def evaluation() -> pd.DataFrame:
    """The rows that the synthetic experiment was made from."""
    return evaluation_rows()


@pytest.fixture(scope="session")
def stage_rows(evaluation: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows that stages beside the evaluation wrote, by their folder."""
    steered = attack_rows(evaluation).query("attack == 'int8'")
    return {
        "depth": depth_rows(),
        "attack/rewrite_variants": rewrite_rows(evaluation),
        "attack/steer_random": steered.assign(variant="layer 1, strength 0.5, random direction"),
        "dose": dose_rows(evaluation),
    }


def layer_choices() -> dict[str, Any]:
    """`layers/causal.json`: the selected layer does more than random ones and is the worst one too."""
    effect = {"effect": 0.31, "low": 0.2, "high": 0.42}
    return {
        "items": 40,
        "layers": {},
        "choices": {
            "selected": {"layers": [[3]], **effect},
            "random": {
                "layers": [[1], [2], [1]], "effect": 0.01, "low": -0.02, "high": 0.04,
                "difference": {"effect": 0.30, "low": 0.19, "high": 0.4}, "selected_is_stronger": True,
            },
            "worst": {"layers": [[3]], **effect, "difference": None, "selected_is_stronger": None},
        },
        "patching": {
            "pairs": 50,
            "denominator": {"nats": 20.0, "low": 18.0, "high": 22.0},
            "layers": {
                "3": {
                    "layer": 3, "effect": 0.71, "low": 0.67, "high": 0.76, "nats": 14.2,
                    "largest_random": 0.23, "beyond_random": True,
                    "controls": {
                        "self": {"layer": 3, "effect": 0.0, "low": 0.0, "high": 0.0, "nats": 0.0},
                        "unrelated": {"layer": 3, "effect": 0.49, "low": 0.45, "high": 0.54, "nats": 9.8},
                        "other_layer": {"layer": 1, "effect": None, "low": None, "high": None, "nats": 1.0},
                    },
                },
            },
        },
    }  # fmt: skip


@pytest.fixture(scope="session")
def synthetic(evaluation: pd.DataFrame, stage_rows: dict[str, pd.DataFrame]) -> ReportInputs:
    """The whole default experiment with made-up rows."""
    config = read_configuration(yaml.safe_load(DEFAULT_FILE.read_text(encoding="utf-8")))
    gates = config.model_dump(mode="json")["gates"]
    attacks = tuple(ATTACKS)
    options = Options(experiment="synthetic", n_resamples=1000, trained_arms=("lora-npo", "reft-npo"),
                      attacks=attacks, permuted_labels=20)  # fmt: skip
    summary = aggregate(
        evaluation, attack_rows(evaluation), config.roles, gates, options,
        hypotheses={**hypotheses(config.roles, gates, options), "declared": "before results"},
        identifier=identifier_errors(),
    )  # fmt: skip
    return ReportInputs(
        config=config.model_dump(mode="json"),
        gates={**summary.gates, "test_reading": 2},
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
        depth=summarise(stage_rows["depth"], base="base", oracle="oracle_reference", calibration=CALIBRATION),
        rewrites=leak_rates(stage_rows["attack/rewrite_variants"], ("arm", "language", "variant")),
        steering=steering_rates(stage_rows["attack/steer_random"]),
        contexts=contexts(),
        picks=picked_latents(),
        causal=layer_choices(),
        doses=dose_rates(stage_rows["dose"]),
        sweeps={"lora-npo": {"choice": choose(sweep_table()), "trials": sweep_table()}},
        reliability=identifier_errors(),
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
        layers=pd.DataFrame(), selected={}, sae={}, data={}, environment={}, depth=pd.DataFrame(),
        rewrites=pd.DataFrame(), steering=pd.DataFrame(), contexts=pd.DataFrame(), picks={},
        causal={},
        doses=pd.DataFrame(), sweeps={}, reliability={},
    )  # fmt: skip
