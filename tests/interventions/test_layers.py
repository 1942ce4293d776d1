from __future__ import annotations

from typing import Any

import pytest

from mmie.errors import InputError
from mmie.interventions import FitData
from mmie.interventions.layers import resolve_layers

DATA = FitData(layers=(5, 7), layer_scores={layer: float(-abs(layer - 6)) for layer in range(12)})


def test_names_and_lists() -> None:
    assert resolve_layers("all", DATA, 3, "reft", 1) == [0, 1, 2]
    assert resolve_layers("selected", DATA, 12, "reft", 1) == [5, 7]
    assert resolve_layers([9, 2], DATA, 12, "reft", 1) == [2, 9]
    assert resolve_layers("middle", DATA, 12, "reft", 1) == [5, 6]
    assert resolve_layers("worst", DATA, 12, "reft", 1) == [0, 1]


@pytest.mark.regression("ACT-21")
def test_random_layers_differ_from_the_selection_and_come_back_with_the_seed() -> None:
    draws = [resolve_layers("random", DATA, 24, "reft", seed) for seed in range(5)]
    assert draws == [resolve_layers("random", DATA, 24, "reft", seed) for seed in range(5)]
    assert all(len(draw) == 2 and not set(draw) & {5, 7} for draw in draws)
    assert len({tuple(draw) for draw in draws}) > 1
    # Of the same depth: blocks 5 and 7 of 24 are in the lowest third.
    assert all(layer < 8 for draw in draws for layer in draw)


@pytest.mark.regression("ACT-20")
def test_the_selection_decides_which_tensors_of_lora_are_trained(toy_model: Any, toy_data: FitData) -> None:
    from dataclasses import replace

    from mmie.interventions import build

    from .conftest import OPTIONS

    names = []
    for layers in ((0,), (1,)):
        arm = build({"kind": "lora", **OPTIONS["lora"], "layers": "selected"})
        arm.fit(toy_model, replace(toy_data, layers=layers), seed=1)
        names.append(set(arm.fitted.tensors))
    assert names[0] and names[1] and not names[0] & names[1]
    assert all("layers.0." in name for name in names[0])


@pytest.mark.parametrize("chosen", ["best", [1, 1], [12], []])
def test_wrong_layers_are_refused(chosen: Any) -> None:
    with pytest.raises(InputError, match="arm of kind 'reft': layers"):
        resolve_layers(chosen, DATA, 12, "reft", 1)


def test_worst_without_scores_is_refused() -> None:
    with pytest.raises(InputError, match="needs scores"):
        resolve_layers("worst", FitData(layers=(1,)), 4, "reft", 1)
