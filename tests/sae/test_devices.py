from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmie.activations.storage import ActivationStore
from mmie.sae.architectures import ARCHITECTURES
from mmie.sae.attribution import attribute
from mmie.sae.contexts import _strongest
from mmie.sae.gibberish import statistics_of_texts
from mmie.sae.item_statistics import latent_statistics
from mmie.sae.options import SaeOptions
from mmie.sae.picking import Sides, contrast_entry
from mmie.sae.quality import measure_loss_recovered, measure_quality
from mmie.sae.selection import Screen
from mmie.sae.topk import TopKSAE
from mmie.sae.train import train_sae
from mmie.sae.trainer import Trainer
from mmie.sae.validation import validate_picks

LANGUAGES = ("hi", "en")


@pytest.mark.regression("SAE-01")
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_training_elsewhere_gives_the_autoencoder_of_training_here(
    architecture: str, write_store: Callable[..., ActivationStore], elsewhere: torch.device
) -> None:
    rows = np.random.default_rng(0).normal(size=(600, 16)).astype(np.float32)
    store = write_store({"hi": rows[:300], "en": rows[300:]})
    encoder = "float32" if architecture == "topk" else "auto"
    options = SaeOptions(
        architecture=architecture, expansion=2, k=2, epochs=6, batch_size=100, encoder=encoder
    )
    here, there = train_sae(store, options)[0], train_sae(store, options, device=elsewhere)[0]
    assert there.w_dec.device.type == "cpu"
    qualities = [measure_quality(sae, store)["pooled"]["fvu"] for sae in (here, there)]
    # Sums in another order; a latent at its threshold then fires or does not.
    assert qualities[0] == pytest.approx(qualities[1], abs=1e-3)


def test_a_step_with_dead_latents_and_a_screen_runs_elsewhere(elsewhere: torch.device) -> None:
    sae = TopKSAE(16, 64, 4)
    sae.initialise(torch.zeros(16), torch.Generator().manual_seed(0))
    sae.to(elsewhere)
    trainer = Trainer(sae, SaeOptions(k=4), 16.0, steps=10, budget=100)
    trainer.screen = Screen()
    trainer.silent_for[:40] = 1000
    for at in range(3):
        trainer.step(torch.randn(32, 16, generator=torch.Generator().manual_seed(at)).to(elsewhere), at)
    assert sae.w_dec.isfinite().all()


def test_passes_through_a_model_elsewhere_measure_what_they_do_here(
    toy_model: Any, toy_tokenizer: Any, toy_rows: Callable[..., pd.DataFrame], elsewhere: torch.device
) -> None:
    rows = {language: toy_rows(language, first_word=4 + 20 * at) for at, language in enumerate(LANGUAGES)}
    sae = TopKSAE(16, 80, 4)
    sae.initialise(torch.zeros(16), torch.Generator().manual_seed(0))
    sae.requires_grad_(False)
    toy_model.requires_grad_(False)
    table = pd.DataFrame(
        {"latent": range(80), "score": 1.0, "rate_forget": 0.1, "rate_retain": 0.1, "decoder_norm": 1.0}
    )

    def measured() -> list[Any]:
        texts = {language: some["prompt"].tolist() for language, some in rows.items()}
        found = statistics_of_texts(toy_model, toy_tokenizer, texts, {1: sae})
        effects = validate_picks(
            toy_model, toy_tokenizer, rows, sae, {"some": [3, 7, 11]}, table,
            layer=1, forget=["hi"], retain=["en"], residual_norm=1.0,
        )  # fmt: skip
        return [
            measure_loss_recovered(toy_model, toy_tokenizer, rows, sae, 1)["pooled"]["loss_sae"],
            attribute(toy_model, toy_tokenizer, rows, sae, 1)["hi"],
            found[1]["hi"].rate,
            effects["some"]["forget"],
        ]

    here = measured()
    toy_model.to(elsewhere)
    there = measured()
    assert sae.w_dec.device.type == "cpu"
    for one, other in zip(here, there, strict=True):
        assert np.allclose(one, other, atol=1e-6)


def test_stored_rows_are_scored_elsewhere_as_they_are_here(
    write_store: Callable[..., ActivationStore], elsewhere: torch.device
) -> None:
    rows = np.random.default_rng(0).normal(size=(80, 16)).astype(np.float32)
    store = write_store({"hi": rows[:40], "en": rows[40:]})
    sae = TopKSAE(16, 64, 4)
    sae.initialise(torch.zeros(16), torch.Generator().manual_seed(0))
    sae.requires_grad_(False)
    sides = Sides(["hi"], ["en"])

    def measured(sae: TopKSAE) -> list[Any]:
        statistics = latent_statistics(sae, store, seed=0)
        best = _strongest(sae, store, "hi", [1, 2], 3)
        return [
            statistics["hi"].mean,
            contrast_entry(sae, statistics, sides, 3, layer=1)["scores"],
            np.concatenate([latent.code for latent in best]),
            measure_quality(sae, store)["pooled"]["fvu"],
        ]

    here = measured(sae)
    for one, other in zip(here, measured(sae.to(elsewhere)), strict=True):
        assert np.allclose(one, other, atol=1e-6)
