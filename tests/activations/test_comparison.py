"""Whether selected layers matter more than others, on effects whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmie.activations.causal import CausalOptions
from mmie.activations.comparison import choose_items, compare_choices, language_direction, layer_effects
from mmie.activations.extract import extract_language
from mmie.activations.storage import load_rows
from mmie.errors import InputError
from mmie.interventions.interface import assert_restored

OPTIONS = CausalOptions(controls=4, minimum_items=20, resamples=200)


def planted(strong: int) -> dict[int, tuple[np.ndarray, list[np.ndarray], float]]:
    """Four layers of 60 items; the ablation of one of them costs 1 nat, all else nothing but noise."""
    rng = np.random.default_rng(0)

    def noise() -> np.ndarray:
        return rng.normal(0, 0.1, 60)

    return {layer: (noise() + (layer == strong), [noise() for _ in range(4)], 1.0) for layer in range(4)}


def test_a_selection_of_the_layer_that_matters_is_stronger_than_random_and_worst() -> None:
    found = compare_choices(planted(2), {"selected": [[2]], "random": [[0], [1]], "worst": [[3]]}, OPTIONS)
    for other in ("random", "worst"):
        assert found["choices"][other]["selected_is_stronger"]
        assert found["choices"][other]["difference"]["effect"] == pytest.approx(1, abs=0.1)
    assert found["layers"]["2"]["beyond_controls"]
    assert found["choices"]["selected"]["effect"] == pytest.approx(1, abs=0.1)


def test_a_selection_of_a_layer_that_does_not_matter_is_not_called_stronger() -> None:
    found = compare_choices(planted(0), {"selected": [[2]], "random": [[1], [3]], "worst": [[0]]}, OPTIONS)
    assert not found["choices"]["random"]["selected_is_stronger"]
    assert not found["choices"]["worst"]["selected_is_stronger"]
    assert found["choices"]["worst"]["difference"]["high"] < 0


def test_the_selected_layers_themselves_are_no_comparison() -> None:
    found = compare_choices(planted(2), {"selected": [[2]], "middle": [[2]]}, OPTIONS)
    assert found["choices"]["middle"]["difference"] is None
    assert found["choices"]["middle"]["selected_is_stronger"] is None


def test_a_push_of_the_same_size_is_taken_off() -> None:
    """What any push of that size costs is no effect of the direction."""
    effects = {1: (np.full(60, 0.7), [np.full(60, 0.5), np.full(60, 0.9)], 1.0)}
    layer = compare_choices(effects, {"selected": [[1]]}, OPTIONS)["layers"]["1"]
    assert layer["effect"] == pytest.approx(0)
    assert not layer["beyond_controls"]


def table(*languages: str, facts: int = 30) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "example_id": f"fact{fact}/q{question}",
            "fact_id": f"fact{fact}",
            "language": language,
            "split": "dev" if fact % 3 else "test",
            "kind": "direct",
            "template_split": "held_out" if question == 2 else "trained",
        }
        for language in languages
        for fact in range(facts)
        for question in range(3)
    )


def test_items_are_dev_questions_one_a_fact_with_languages_in_turn() -> None:
    chosen = choose_items(table("xx", "xx_Latn", "yy"), ["xx", "xx_Latn"], 12)
    assert len(chosen) == 12 and chosen["fact_id"].is_unique
    assert set(chosen["split"]) == {"dev"} and set(chosen["template_split"]) == {"trained"}
    assert chosen["language"].value_counts().to_dict() == {"xx": 6, "xx_Latn": 6}
    pd.testing.assert_frame_equal(chosen, choose_items(table("xx", "xx_Latn", "yy"), ["xx", "xx_Latn"], 12))
    with pytest.raises(InputError, match="no direct DEV question"):
        choose_items(table("yy"), ["xx"], 12)


def test_effects_of_layers_are_measured_along_the_language_direction_and_undone(
    tmp_path: Path, toy_model: Any, toy_tokenizer: Any, toy_rows: Callable[..., pd.DataFrame]
) -> None:
    generator = torch.Generator().manual_seed(4)
    toy_model.lm_head.weight = torch.nn.Parameter(torch.randn(64, 16, generator=generator))
    for language, first in (("xx", 4), ("yy", 31)):
        extract_language(
            toy_model, toy_tokenizer, toy_rows(language, count=24, first_word=first), tmp_path / language
        )
    direction, mean = language_direction(tmp_path, 1, ["xx"], ["yy"])
    assert float(direction.norm()) == pytest.approx(1, abs=1e-6)
    store = load_rows(tmp_path, 1, ["yy"], "fit")
    assert mean == pytest.approx(float((store[np.arange(len(store))] @ direction).mean()), abs=1e-5)
    other, _ = language_direction(tmp_path, 1, ["yy"], ["xx"])
    assert torch.allclose(direction, -other, atol=1e-6)
    with assert_restored(toy_model):
        effects = layer_effects(
            toy_model,
            toy_tokenizer,
            toy_rows("xx", count=24),
            tmp_path,
            [1, 0, 1],
            forget=["xx"],
            retain=["yy"],
            options=OPTIONS,
        )
    assert sorted(effects) == [0, 1]
    for raw, controls, size in effects.values():
        assert raw.shape == (24,) and len(controls) == 4 and size > 0
        assert np.abs(raw).max() > 1e-4
