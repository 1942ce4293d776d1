from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from mmie.errors import InputError
from mmie.models.hooks import edit, hook_count
from mmie.models.prompts import collate, encode_all, padding_id
from mmie.sae.attribution import attribute, attribution_score
from mmie.sae.topk import TopKSAE
from mmie.training.forward import batch_nll

Parts = tuple[LlamaForCausalLM, PreTrainedTokenizerFast, pd.DataFrame]


@pytest.fixture
def frozen(tiny_model: Parts) -> Parts:
    model, tokenizer, table = tiny_model
    return model.double().requires_grad_(False), tokenizer, table


def autoencoder() -> TopKSAE:
    generator = torch.Generator().manual_seed(0)
    sae = TopKSAE(16, 24, 4).double()
    sae.initialise(torch.zeros(16).double(), generator)
    return sae.requires_grad_(False)


def brute_force(parts: Parts, sae: TopKSAE, layer: int, step: float = 1e-2) -> np.ndarray:
    """Minus the change of the summed answer loss when a latent is turned down a little, by runs.

    The model normalises in float32, which sets the smallest step that can be seen.
    """
    model, tokenizer, table = parts
    items = encode_all(tokenizer, table["prompt"].tolist(), table["answer"].tolist())
    specials = torch.tensor(tokenizer.all_special_ids)
    slopes = np.zeros(sae.latents)
    for item in items:
        batch = collate([item], padding_id(tokenizer))

        def loss(latent: int, size: float, batch: object = batch) -> float:
            def turned_down(hidden: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
                keep = keep & ~torch.isin(batch.input_ids, specials)
                codes = sae.codes(hidden)[..., latent] * keep
                return hidden - size * codes.unsqueeze(-1) * sae.w_dec[latent]

            with torch.no_grad(), edit(model, {layer: turned_down}):
                return float(batch_nll(model, batch)[0].sum())

        for latent in range(sae.latents):
            slopes[latent] -= (loss(latent, step) - loss(latent, -step)) / (2 * step)
    return slopes / len(items)


@pytest.mark.regression("SAE-05")
@pytest.mark.parametrize("layer", [0, 1])
def test_on_a_frozen_model_the_attribution_equals_brute_force(frozen: Parts, layer: int) -> None:
    model, tokenizer, table = frozen
    sae = autoencoder()
    found = attribute(model, tokenizer, {"hi": table}, sae, layer)["hi"]
    expected = brute_force(frozen, sae, layer)
    assert np.abs(expected).max() > 0.1
    assert found == pytest.approx(expected, abs=1e-3)
    best = set(np.argsort(-found)[:5])
    assert best == set(np.argsort(-expected)[:5])
    assert all(parameter.grad is None for parameter in model.parameters())
    assert hook_count(model) == 0


@pytest.mark.regression("SAE-05")
def test_gradients_are_switched_on_where_they_were_off_and_refused_where_they_cannot_be(
    frozen: Parts,
) -> None:
    model, tokenizer, table = frozen
    sae = autoencoder()
    plain = attribute(model, tokenizer, {"hi": table}, sae, 0)["hi"]
    with torch.no_grad():
        assert np.array_equal(attribute(model, tokenizer, {"hi": table}, sae, 0)["hi"], plain)
    with torch.inference_mode(), pytest.raises(InputError, match="inference mode"):
        attribute(model, tokenizer, {"hi": table}, sae, 0)


def test_batching_does_not_matter(frozen: Parts) -> None:
    model, tokenizer, table = frozen
    sae = autoencoder()
    together = attribute(model, tokenizer, {"hi": table}, sae, 0)["hi"]
    alone = attribute(model, tokenizer, {"hi": table}, sae, 0, token_budget=1)["hi"]
    assert together == pytest.approx(alone, abs=1e-9)


def test_sinks_take_no_part(frozen: Parts) -> None:
    model, tokenizer, table = frozen
    found = attribute(model, tokenizer, {"hi": table}, autoencoder(), 0, norm_limit=0.0)["hi"]
    assert not found.any()


def test_the_score_is_the_rise_on_forget_minus_the_rise_on_retain() -> None:
    given = {"hi": np.array([-3.0, 1.0]), "hi_Latn": np.array([-1.0, 1.0]), "en": np.array([-0.5, 0.0])}
    score = attribution_score(given, forget=["hi", "hi_Latn"], retain=["en"])
    # Removing latent 0 raises the loss by 2 on Hindi and by 0.5 on English.
    assert score.tolist() == [1.5, -1.0]


def test_no_items_is_an_error(frozen: Parts) -> None:
    model, tokenizer, table = frozen
    with pytest.raises(InputError, match="no items in hi"):
        attribute(model, tokenizer, {"hi": table.iloc[:0]}, autoencoder(), 0)
