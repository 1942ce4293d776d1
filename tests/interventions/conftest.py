from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from mmie.activations.extract import extract_language
from mmie.data.triples import Triple
from mmie.interventions import FitData, build
from mmie.interventions.interface import base_weights_hash
from mmie.models.loading import save_model
from mmie.sae.formats import load_sae, save_sae
from mmie.sae.topk import TopKSAE
from mmie.training.reference import reference_log_likelihoods

TRAINING = {
    "steps": 6,
    "learning_rate": 0.02,
    "forget_batch": 6,
    "retain_batch": 6,
    "checkpoint_every": 3,
}
LATENTS = 24

OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "oracle": {},
    "noise": {"scale": 1.0},
    "lora": {"rank": 2, "alpha": 4.0, "training": TRAINING},
    "reft": {"rank": 3, "training": TRAINING},
    "sae_clamp": {"features": 3, "strength": 2.0},
    "diff_means": {},
    "leace": {},
    "script_scrub": {},
    "subspace": {},
    "language_neurons": {"share": 0.2},
    "prompt_only": {"instruction": "w9 w8 w7"},
    "full": {"training": {**TRAINING, "learning_rate": 0.01}},
    "task_vector": {"training": {"steps": 6, "learning_rate": 0.02, "batch": 6, "checkpoint_every": 3}},
    "contrastive": {
        "rank": 2,
        "alpha": 4.0,
        "training": TRAINING,
        "triples": ["triples.jsonl"],
        "contrast": {"batch": 4, "weight": 0.1, "collapse_limit": 2.0},
    },
    "lingtea": {
        "rank": 2,
        "alpha": 4.0,
        "training": {"steps": 8, "learning_rate": 0.02, "batch": 6, "checkpoint_every": 3},
    },
    "crisp": {
        "rank": 2,
        "features": 3,
        "retain_share": 0.2,
        "training": {"steps": 8, "learning_rate": 0.005, "batch": 6, "checkpoint_every": 3},
    },
    "negative_reft": {
        "rank": 3,
        "strength": 0.5,
        "training": {"steps": 6, "learning_rate": 0.03, "batch": 6, "checkpoint_every": 3},
    },
    "gated_reft": {"rank": 3, "training": {**TRAINING, "learning_rate": 0.1}},
    "rmu": {"training": {"steps": 6, "learning_rate": 0.02, "batch": 6, "checkpoint_every": 3}},
}
PARTS = {
    # A small step: a stream that moved far would not make the gate's latents fire any more.
    "adapter": {"kind": "lora", "rank": 2, "alpha": 4.0, "training": {**TRAINING, "learning_rate": 0.002}},
    "gate": {"kind": "sae_clamp", "features": 3, "strength": 2.0},
}
OPTIONS["combined"] = {"parts": list(PARTS)}
FIRST_WORD = {"xx": 4, "xx_Latn": 22, "yy": 31, "zz": 49}


def toy_triples(count: int) -> list[Triple]:
    """Triples whose attacks and refusals are in the forget language and whose benign pairs are stand-ins."""
    return [
        Triple(
            triple_id=f"t{number}", template_id=f"q{number}", forget_id=f"fact{number}", family="role_play",
            lang_a="en", lang_p="en", lang_x="xx", script_a="Latn", script_p="Latn", script_x="Latn",
            system="", anchor=f"w{20 + number} w5", counterfactual=f"w5 w{20 + number} w6",
            adversarial=f"w{10 + number} w{30 + number} w7", anchor_response="w8",
            adversarial_response="w60 w61", cf_kind="paraphrase", cf_response="w8", context="",
            file="triples.jsonl", line=number + 1, split="fit", cell="fit",
        )
        for number in range(count)
    ]  # fmt: skip


@pytest.fixture
def toy_sae() -> TopKSAE:
    """Random unit decoder rows, tied encoder, centred at 0; 4 of 24 latents fire."""
    sae = TopKSAE(16, LATENTS, 4)
    sae.initialise(torch.zeros(16), torch.Generator().manual_seed(3))
    return sae


@pytest.fixture
def latent_table() -> pd.DataFrame:
    """Latents 5, 2 and 7 speak for the forget language most; every latent fires at some rate."""
    score = [-1.0] * LATENTS
    score[5], score[2], score[7], score[9] = 3.0, 2.0, 1.0, 0.5
    return pd.DataFrame(
        {
            "latent": range(LATENTS),
            "score": score,
            "rate_forget": [0.01 * (number % 6 + 1) for number in range(LATENTS)],
            "rate_retain": [0.02 * (number % 6 + 1) for number in range(LATENTS)],
            "decoder_norm": [1.0] * LATENTS,
        }
    )


@pytest.fixture
def toy_activations(
    tmp_path_factory: pytest.TempPathFactory,
    toy_model: Any,
    toy_tokenizer: Any,
    toy_rows: Callable[..., pd.DataFrame],
) -> Path:
    """Stored activations of four toy languages, half of the 44 items FIT and half DEV.

    Made once a session: the toy model is the same every time, and nothing writes here.
    """
    root = tmp_path_factory.getbasetemp() / "toy_activations"
    for language, first_word in FIRST_WORD.items():
        if not (root / language).exists():
            rows = toy_rows(language, count=44, first_word=first_word)
            rows["split"] = ["fit", "dev"] * 22
            extract_language(toy_model, toy_tokenizer, rows, root / language)
    return root


@pytest.fixture
def toy_data(
    tmp_path: Path,
    toy_model: Any,
    toy_tokenizer: Any,
    toy_rows: Callable[..., pd.DataFrame],
    toy_sae: TopKSAE,
    latent_table: pd.DataFrame,
    toy_activations: Path,
) -> FitData:
    """Everything that any kind may need; the oracle is the toy model with other weights."""
    oracle = type(toy_model)(toy_model.config)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter.normal_(0, 0.2, generator=generator)
    (tmp_path / "oracle").mkdir()
    save_model(oracle, toy_tokenizer, tmp_path / "oracle")
    base_hash = base_weights_hash(toy_model)
    save_sae(toy_sae, tmp_path / "sae/layer1", layer=1, model_hash=base_hash)
    forget = toy_rows("xx")
    return FitData(
        tokenizer=toy_tokenizer,
        forget=forget,
        retain=pd.concat(
            [toy_rows(name, first_word=FIRST_WORD[name]) for name in ("yy", "zz")], ignore_index=True
        ).assign(script="Latn"),
        triples=toy_triples(8),
        reference=reference_log_likelihoods(toy_model, toy_tokenizer, forget),
        layers=(1,),
        layer_scores={0: 1.5, 1: 2.0},
        activations=toy_activations,
        forget_languages=("xx", "xx_Latn"),
        retain_languages=("yy", "zz"),
        oracle=tmp_path / "oracle",
        sae=tmp_path / "sae",
        latents={1: latent_table},
        residual_norms={1: 0.1},
    )


@pytest.fixture
def talkative(toy_model: Any, toy_data: FitData) -> Any:
    """The toy model with an output head of its own; tied, it repeats its last word whatever is done."""
    generator = torch.Generator().manual_seed(4)
    toy_model.lm_head.weight = torch.nn.Parameter(torch.randn(64, 16, generator=generator))
    resave_sae(toy_data, toy_model)
    return toy_model


def resave_sae(data: FitData, model: Any) -> None:
    """Declare the toy autoencoder to belong to a model that was changed after it."""
    assert data.sae is not None
    sae = load_sae(data.sae / "layer1", layer=1)
    save_sae(sae, data.sae / "layer1", layer=1, model_hash=base_weights_hash(model))


@pytest.fixture
def fitted(tmp_path: Path, toy_model: Any, toy_data: FitData) -> Callable[..., Any]:
    """Build an arm of a kind and fit it to the toy model, after its parts if it has any."""

    def make(kind: str, seed: int = 1, **more: Any) -> Any:
        parts = {}
        for name in PARTS if kind == "combined" else ():
            part, parts[name] = build(PARTS[name]), tmp_path / "parts" / name / f"seed{seed}"
            part.fit(toy_model, toy_data, seed=seed)
            part.save(parts[name])
        arm = build({"kind": kind, **OPTIONS[kind], **more})
        arm.fit(toy_model, replace(toy_data, parts=parts), seed=seed)
        return arm

    return make


@pytest.fixture
def logits() -> Callable[[Any], torch.Tensor]:
    """Logits of two rows of different length, one of them padded."""
    ids = torch.tensor([[1, 5, 6, 7, 8], [1, 9, 10, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])

    def compute(model: Any) -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=ids, attention_mask=mask, use_cache=False).logits[mask.bool()]

    return compute


@pytest.fixture
def knowing(toy_model: Any, toy_data: FitData) -> tuple[Any, FitData]:
    """The toy model after it was taught forget and retain answers, and the data with its reference."""
    rows = pd.concat([toy_data.forget, toy_data.retain], ignore_index=True)
    lesson = build({"kind": "task_vector", "training": {"steps": 80, "learning_rate": 0.01, "batch": 36}})
    lesson.fit(toy_model, replace(toy_data, forget=rows), seed=1)
    assert lesson.fitted is not None
    with torch.no_grad():
        for name, value in toy_model.named_parameters():
            value.add_(lesson.fitted.tensors[name])
    reference = reference_log_likelihoods(toy_model, toy_data.tokenizer, toy_data.forget)
    resave_sae(toy_data, toy_model)
    return toy_model, replace(toy_data, reference=reference)
