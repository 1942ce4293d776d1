"""The check of picked latents does what the arm does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmie.activations.extract import extract_language
from mmie.activations.norms import residual_norms, sink_factor
from mmie.errors import InputError
from mmie.interventions import FitData, build
from mmie.interventions.fit_data import read_fit_data
from mmie.io import read_json
from mmie.sae.clamp import clamp_of
from mmie.sae.formats import load_sae
from mmie.sae.validation import validate_picks
from mmie.training.batches import Examples
from mmie.training.reference import answer_sums

PICKED = [5, 2, 7]


@pytest.fixture
def loud_forget(
    tmp_path: Path, toy_model: Any, toy_tokenizer: Any, toy_rows: Callable[..., pd.DataFrame]
) -> Path:
    """Stored activations where the forget language's norms are far from those of the retain languages."""
    root = tmp_path / "activations"
    for language, word, scale in (("xx", 4, 5.0), ("yy", 31, 1.0), ("zz", 49, 2.0)):
        embedding = toy_model.get_input_embeddings().weight
        before = embedding.detach().clone()
        embedding.data.mul_(scale)
        rows = toy_rows(language, first_word=word).assign(split="fit")
        extract_language(toy_model, toy_tokenizer, rows, root / language)
        embedding.data.copy_(before)
    return root


def arm_of(model: Any, data: FitData, root: Path, retain: tuple[str, ...]) -> Any:
    """The arm at strength 1, fitted to what its rule gives it: activations of every fitted language."""
    given = {"activations": [root / language for language in ("xx", *retain)]}
    norms = read_fit_data(given, tokenizer=None, forget=["xx"], retain=retain).residual_norms
    arm = build({"kind": "sae_clamp", "features": len(PICKED), "strength": 1.0})
    arm.fit(model, replace(data, residual_norms=norms, activations=root, retain_languages=retain), seed=0)
    assert arm.fitted.facts["layers"]["1"]["latents"] == PICKED
    return arm


def test_validation_and_the_arm_give_the_same_edit_bit_for_bit(
    toy_model: Any, toy_data: FitData, loud_forget: Path
) -> None:
    retain = ("yy", "zz")
    arm = arm_of(toy_model, toy_data, loud_forget, retain)
    of_arm = arm._edit("1", arm.fitted.facts["layers"]["1"], torch.device("cpu"))
    norm = residual_norms(loud_forget, retain)[1]
    sae = load_sae(toy_data.sae / "layer1", layer=1)
    limit = sink_factor(loud_forget, retain) * norm
    of_check = clamp_of(sae, PICKED, norm, limit, toy_data.tokenizer.all_special_ids)
    assert torch.equal(of_check.clamp, of_arm.clamp)
    assert of_check.largest_norm == of_arm.largest_norm
    hidden = torch.randn(3, 40, 16, generator=torch.Generator().manual_seed(1))
    # Some positions are below the limit of sinks and some above.
    hidden *= torch.linspace(0.1, 2.0, 40)[:, None] * of_arm.largest_norm / hidden.norm(dim=-1, keepdim=True)
    keep = torch.ones(3, 40, dtype=torch.bool)
    expected = of_arm(hidden, keep)
    assert torch.equal(of_check(hidden, keep), expected)
    changed = (expected != hidden).any(-1)
    assert changed.any() and not changed[hidden.norm(dim=-1) > of_arm.largest_norm].any()


def test_the_unit_is_the_mean_of_the_retain_languages_medians(loud_forget: Path) -> None:
    medians = {
        language: read_json(loud_forget / language / "extraction.json")["median_norm"]["1"]
        for language in ("xx", "yy", "zz")
    }
    found = residual_norms(loud_forget, ["yy", "zz"])[1]
    assert found == pytest.approx((medians["yy"] + medians["zz"]) / 2, rel=1e-12)
    assert abs(found / np.mean(list(medians.values())) - 1) > 0.02, medians
    with pytest.raises(InputError, match="retain"):
        residual_norms(loud_forget, [])


def test_measured_effects_are_those_of_the_arm_in_force(
    talkative: Any,
    toy_tokenizer: Any,
    toy_data: FitData,
    loud_forget: Path,
    toy_rows: Callable[..., pd.DataFrame],
    latent_table: pd.DataFrame,
) -> None:
    retain = ("yy", "zz")
    arm = arm_of(talkative, toy_data, loud_forget, retain)
    rows = {"xx": toy_rows("xx"), "yy": toy_rows("yy", first_word=31), "zz": toy_rows("zz", first_word=49)}
    sae = load_sae(toy_data.sae / "layer1", layer=1)
    norm = residual_norms(loud_forget, retain)[1]
    found = validate_picks(
        talkative, toy_tokenizer, rows, sae, {"contrast": PICKED}, latent_table,
        layer=1, forget=["xx"], retain=retain, residual_norm=norm,
        largest_norm=sink_factor(loud_forget, retain) * norm,
    )["contrast"]  # fmt: skip

    def loss(language: str) -> float:
        examples = Examples.from_rows(rows[language], toy_tokenizer, longest=None, name="check")
        return float(np.sum(answer_sums(talkative, examples)) / np.sum(examples.answer_lengths))

    base = {language: loss(language) for language in rows}
    with arm.applied(talkative):
        rise = {language: loss(language) - base[language] for language in rows}
    assert rise["xx"] != 0
    assert found["forget"] == rise["xx"]
    assert found["retain"] == float(np.mean([rise["yy"], rise["zz"]]))
