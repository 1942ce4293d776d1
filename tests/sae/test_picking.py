from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from mmie.activations.extract import extract_language
from mmie.activations.storage import ActivationStore, load_rows
from mmie.errors import InputError
from mmie.sae.features import contrast_table
from mmie.sae.item_statistics import latent_statistics
from mmie.sae.pickers import choose_latents
from mmie.sae.picking import Sides, contrast_entry, pick_all, score_latents
from mmie.sae.topk import TopKSAE

Parts = tuple[LlamaForCausalLM, PreTrainedTokenizerFast, pd.DataFrame]
SIDES = Sides(forget=["hi"], retain=["en"])


def axes() -> TopKSAE:
    """Latent j is the positive part of dimension j."""
    sae = TopKSAE(6, 6, 6)
    with torch.no_grad():
        sae.w_enc.copy_(torch.eye(6))
        sae.w_dec.copy_(torch.eye(6))
    return sae.requires_grad_(False)


@pytest.fixture
def two_speak(write_store: Callable[..., ActivationStore]) -> ActivationStore:
    """Dimensions 1 and 4 are larger in Hindi, all others in English."""
    x = np.abs(np.random.default_rng(0).normal(size=(240, 6))).astype(np.float32)
    marked = np.zeros(6, np.float32)
    marked[[1, 4]] = 2
    return write_store({"hi": x + marked, "en": x + 1 - marked / 2})


def test_too_few_latents_by_contrast_are_a_reason_and_no_end(two_speak: ActivationStore) -> None:
    statistics = latent_statistics(axes(), two_speak)
    entry = contrast_entry(axes(), statistics, SIDES, 2, layer=1)
    assert sorted(entry["features"]) == [1, 4] and "without" not in entry
    lacking = contrast_entry(axes(), statistics, SIDES, 3, layer=1)
    assert lacking["features"] == [] and "2 latents of layer 1" in lacking["without"]
    table = contrast_table(axes(), statistics, forget=["hi"], retain=["en"])
    picks, without = pick_all(table, 3, layer=1)
    assert "contrast" not in picks and "2 latents of layer 1" in without["contrast"]
    # The arm that wants them is the one that stops.
    with pytest.raises(InputError, match="picker contrast: 2 latents of layer 1 score above 0, 3 are wanted"):
        choose_latents(table, "contrast", 3, layer=1)


def test_all_pickers_score_from_the_statistics_that_are_given(tmp_path: Path, tiny_model: Parts) -> None:
    model, tokenizer, table = tiny_model
    rows = {}
    for language, prompts in (("hi", ["w1 w2", "w3 w4", "w7"]), ("en", ["w11 w12", "w13 w14", "w17"])):
        rows[language] = table.assign(
            prompt=prompts, example_id=["a", "b", "c"], language=language, split="fit"
        )
        extract_language(model, tokenizer, rows[language], tmp_path / language)
    sae = TopKSAE(16, 24, 4)
    sae.initialise(torch.zeros(16), torch.Generator().manual_seed(0))
    sae.requires_grad_(False)
    store = load_rows(tmp_path, 1, ["hi", "en"], "fit")
    statistics = latent_statistics(sae, store)
    found = score_latents(model, tokenizer, sae, store, rows, SIDES, statistics)
    expected = contrast_table(sae, statistics, forget=["hi"], retain=["en"])
    pd.testing.assert_frame_equal(found[expected.columns], expected)
    assert {"attribution", "specificity", "dsg_ratio"} <= set(found.columns)
    assert "script_invariant" not in found and (found["attribution"] != 0).any()
