"""Causal checks of layers on a model whose blocks are on different devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from elsewhere import place

from mmie.activations.causal import CausalOptions, ablation_effect
from mmie.activations.patching import patching_effect

OPTIONS = CausalOptions(controls=2, minimum_items=4)


@pytest.mark.regression("ACT-30")
@pytest.mark.parametrize("devices", [1, 2])
def test_ablation_and_patching_have_the_effects_they_have_here(
    devices: int,
    toy_model: Any,
    toy_tokenizer: Any,
    toy_rows: Callable[..., pd.DataFrame],
    elsewhere: torch.device,
) -> None:
    rows = toy_rows("xx")
    direction = torch.nn.functional.normalize(torch.arange(16.0), dim=0)
    others = rows.iloc[::-1].reset_index(drop=True)
    pairs = pd.DataFrame(
        {
            "prompt": rows["prompt"], "answer": rows["answer"],
            "other_prompt": others["prompt"], "other_answer": others["answer"],
            "source_prompt": others["prompt"], "unrelated_prompt": rows["prompt"],
        }
    )  # fmt: skip

    def measured(model: Any) -> list[np.ndarray]:
        ablated = ablation_effect(model, toy_tokenizer, rows, 1, direction, 0.0, OPTIONS)
        patched = patching_effect(model, toy_tokenizer, pairs, 1, options=OPTIONS, other_layer=0)
        return [ablated["effect"].to_numpy(), patched["nats"].to_numpy()]

    here = measured(toy_model)
    for one, other in zip(here, measured(place(toy_model, devices)), strict=True):
        assert np.allclose(one, other, atol=1e-5)
