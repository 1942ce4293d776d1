from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch

from mmie.activations.causal import CausalOptions, ablation_effect, beyond_chance
from mmie.errors import InputError

OPTIONS = CausalOptions(controls=4, minimum_items=20, resamples=200)


@pytest.fixture
def talking(toy_model: Any) -> Any:
    """The toy model with an output head of its own, so that states decide answers."""
    generator = torch.Generator().manual_seed(4)
    toy_model.lm_head.weight = torch.nn.Parameter(torch.randn(64, 16, generator=generator))
    return toy_model


@pytest.fixture
def rows(toy_rows: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return toy_rows("xx", count=24)


@pytest.mark.regression("ACT-10")
def test_the_control_of_an_ablation_moves_positions_as_far_on_average(
    talking: Any, toy_tokenizer: Any, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmie.activations import causal

    sizes: list[float] = []
    original = causal._effect

    def measured(model: Any, tokenizer: Any, encoded: Any, edits: Any, base: Any) -> Any:
        (layer, act), moved = next(iter(edits.items())), []

        def watched(hidden: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
            new = act(hidden, keep)
            moved.append((new - hidden).norm(dim=-1)[keep])
            return new

        result = original(model, tokenizer, encoded, {layer: watched}, base)
        sizes.append(float(torch.cat(moved).mean()))
        return result

    monkeypatch.setattr(causal, "_effect", measured)
    direction = torch.nn.functional.normalize(talking.lm_head.weight[9].detach(), dim=0)
    table = ablation_effect(talking, toy_tokenizer, rows, 1, direction, 0.0, OPTIONS)
    assert len(sizes) == 5
    assert sizes == pytest.approx([sizes[0]] * 5, rel=1e-3)
    assert table["size"].iloc[0] == pytest.approx(sizes[0], rel=1e-3)


@pytest.mark.regression("ACT-11")
def test_two_runs_give_identical_scores_and_few_items_are_an_error(
    talking: Any, toy_tokenizer: Any, rows: pd.DataFrame
) -> None:
    direction = torch.nn.functional.normalize(torch.arange(16.0), dim=0)
    first, again = (
        ablation_effect(talking, toy_tokenizer, rows, 1, direction, 0.0, OPTIONS) for _ in range(2)
    )
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert (first["low"] <= first["effect"]).all() and (first["effect"] <= first["high"]).all()
    with pytest.raises(InputError, match="24 items; at least 50 are needed"):
        ablation_effect(talking, toy_tokenizer, rows, 1, direction, 0.0)


def test_the_base_is_what_it_was(talking: Any, toy_tokenizer: Any, rows: pd.DataFrame) -> None:
    from mmie.interventions import assert_restored

    direction = torch.nn.functional.normalize(torch.arange(16.0), dim=0)
    with assert_restored(talking):
        ablation_effect(talking, toy_tokenizer, rows, 0, direction, 0.0, OPTIONS)


def test_an_effect_is_read_beyond_the_95th_percentile_of_its_controls() -> None:
    """Of controls 0, 0.1, ..., 2.0 the 95th percentile is 1.9."""
    table = pd.DataFrame(
        {"edit": ["ablation", *["control"] * 21], "effect": [2.4, *(at / 10 for at in range(21))]}
    )
    assert beyond_chance(table) == pytest.approx(0.5)
    with pytest.raises(InputError, match="no control was run"):
        beyond_chance(table.head(1))
