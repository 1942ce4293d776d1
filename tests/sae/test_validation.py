from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from mmie.errors import InputError
from mmie.models.hooks import hook_count
from mmie.sae.clamp import clamp_of
from mmie.sae.topk import TopKSAE
from mmie.sae.validation import _verdict, validate_picks

Parts = tuple[LlamaForCausalLM, PreTrainedTokenizerFast, pd.DataFrame]


def autoencoder(latents: int = 80) -> TopKSAE:
    sae = TopKSAE(16, latents, 4)
    sae.initialise(torch.zeros(16), torch.Generator().manual_seed(0))
    return sae.requires_grad_(False)


def test_the_clamp_equals_decoding_the_changed_codes_and_adding_the_error_back() -> None:
    sae = autoencoder()
    hidden = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    codes = sae.codes(hidden)
    chosen = [int(codes[0, 0].argmax()), 3, 7]
    changed = codes.clone()
    for latent in chosen:
        changed[..., latent] = torch.where(codes[..., latent] > 0, -2.5, 0.0)
    expected = hidden + (changed - codes) @ sae.w_dec
    found = clamp_of(sae, chosen, 2.5, 1e9)(hidden, torch.ones(2, 5, dtype=torch.bool))
    assert torch.allclose(found, expected, atol=1e-5)
    silent = (codes[..., chosen] == 0).all(-1)
    assert silent.any() and torch.equal(found[silent], hidden[silent])
    assert torch.equal(clamp_of(sae, chosen, 2.5, 0.0)(hidden, torch.ones(2, 5)), hidden)


def test_specific_means_beyond_random_on_forget_and_not_beyond_on_retain() -> None:
    controls = [(0.1 * at, 0.05) for at in range(20)]
    assert _verdict(5.0, 0.05, controls)["specific"]
    assert not _verdict(5.0, 0.06, controls)["specific"]
    assert not _verdict(1.8, 0.0, controls)["specific"]
    assert _verdict(5.0, 0.0, controls)["forget_limit"] == pytest.approx(1.805)


def score_table(sae: TopKSAE) -> pd.DataFrame:
    rate = np.linspace(0.01, 0.3, sae.latents)
    return pd.DataFrame(
        {
            "latent": np.arange(sae.latents),
            "score": rate,
            "rate_forget": rate,
            "rate_retain": rate,
            "decoder_norm": 1.0,
        }
    )


def test_effects_of_picks_and_random_sets_are_measured_on_both_sides(tiny_model: Parts) -> None:
    model, tokenizer, table = tiny_model
    sae = autoencoder()
    rows = {
        language: table.assign(language=language, example_id=["a", "b", "c"]) for language in ("hi", "en")
    }
    common = {"layer": 0, "forget": ["hi"], "retain": ["en"], "residual_norm": 20.0}
    found = validate_picks(model, tokenizer, rows, sae, {"contrast": [1, 2, 3]}, score_table(sae), **common)
    effect = found["contrast"]
    # The same rows on both sides: the effects must be equal, and no pick can be specific to one.
    assert effect["forget"] != 0
    assert effect["forget"] == effect["retain"] and effect["random_forget"] == effect["random_retain"]
    assert len(effect["random_forget"]) == 20 and len(set(effect["random_forget"])) > 1
    assert hook_count(model) == 0
    nothing = {**common, "largest_norm": 0.0}
    idle = validate_picks(model, tokenizer, rows, sae, {"contrast": [1, 2, 3]}, score_table(sae), **nothing)
    assert idle["contrast"]["forget"] == 0 and not idle["contrast"]["specific"]


def test_too_few_random_sets_or_items_are_refused(tiny_model: Parts) -> None:
    model, tokenizer, _ = tiny_model
    sae = autoencoder()
    common = {"layer": 0, "forget": ["hi"], "retain": ["en"], "residual_norm": 1.0}
    with pytest.raises(InputError, match="fewer than 20"):
        validate_picks(model, tokenizer, {}, sae, {}, score_table(sae), random_sets=5, **common)
    with pytest.raises(InputError, match="no DEV items in hi"):
        validate_picks(model, tokenizer, {}, sae, {}, score_table(sae), **common)
