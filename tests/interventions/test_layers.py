from __future__ import annotations

from typing import Any

import pytest

from mmie.errors import InputError
from mmie.interventions import FitData
from mmie.interventions.layers import controls, resolve_layers

DATA = FitData(layers=(5, 7), layer_scores={layer: float(-abs(layer - 6)) for layer in range(12)})


def test_names_and_lists() -> None:
    assert resolve_layers("all", DATA, 3, "reft", 1) == [0, 1, 2]
    assert resolve_layers("selected", DATA, 12, "reft", 1) == [5, 7]
    assert resolve_layers([9, 2], DATA, 12, "reft", 1) == [2, 9]


@pytest.mark.regression("ACT-21")
def test_random_layers_differ_from_the_selection_and_come_back_with_the_seed() -> None:
    draws = [resolve_layers("random", DATA, 24, "reft", seed) for seed in range(5)]
    assert draws == [resolve_layers("random", DATA, 24, "reft", seed) for seed in range(5)]
    assert all(len(draw) == 2 and not set(draw) & {5, 7} for draw in draws)
    assert len({tuple(draw) for draw in draws}) > 1
    # Of the same depth: blocks 5 and 7 of 24 are in the lowest third.
    assert all(layer < 8 for draw in draws for layer in draw)


def test_controls_keep_the_distance_and_leave_the_excluded_blocks_alone() -> None:
    """Of 12 blocks the first two and the last cannot be selected, and two layers are two apart."""
    # Nearest to block 6, then the lower of 4 and 8.
    assert resolve_layers("middle", DATA, 12, "reft", 1) == [4, 6]
    # Blocks 0, 1 and 11 score lower.
    assert resolve_layers("worst", DATA, 12, "reft", 1) == [2, 10]
    falling = FitData(layers=(2, 4), layer_scores={layer: 12.0 - layer for layer in range(12)})
    # 11 is excluded, 9 is too near to 10.
    assert resolve_layers("worst", falling, 12, "reft", 1) == [8, 10]
    draws = {tuple(resolve_layers("random", DATA, 12, "reft", seed)) for seed in range(40)}
    assert len(draws) > 3
    for first, second in draws:
        assert first >= 2 and second <= 10 and second - first >= 2 and not {first, second} & {5, 7}


def test_controls_follow_what_the_layer_stage_wrote() -> None:
    """Its candidates and distance, not the default ones."""
    data = FitData(
        layers=(3,), layer_scores={at: float(at) for at in range(8)}, layer_candidates=(3, 6), layer_gap=1
    )
    assert resolve_layers("worst", data, 8, "reft", 1) == [3]
    assert resolve_layers("middle", data, 8, "reft", 1) == [3]
    assert [resolve_layers("random", data, 8, "reft", seed) for seed in range(4)] == [[6]] * 4


def test_a_random_draw_may_share_layers_with_the_selection_where_there_is_no_room() -> None:
    """Two of blocks 1 to 4 at distance 2 are (1, 3), (1, 4) or (2, 4)."""
    data = FitData(layers=(2, 4), layer_candidates=(1, 2, 3, 4), layer_gap=2)
    draws = {tuple(resolve_layers("random", data, 6, "reft", seed)) for seed in range(20)}
    assert draws == {(1, 3)}
    crossed = FitData(layers=(1, 4), layer_candidates=(1, 2, 3, 4), layer_gap=2)
    draws = {tuple(resolve_layers("random", crossed, 6, "reft", seed)) for seed in range(20)}
    assert draws == {(1, 3), (2, 4)}


def test_a_random_control_of_all_that_could_be_selected_is_refused() -> None:
    everything = FitData(layers=(1, 2), layer_candidates=(1, 2), layer_gap=1)
    with pytest.raises(InputError, match=r"nothing but \[1, 2\] could have been selected"):
        resolve_layers("random", everything, 4, "reft", 1)
    assert controls(everything, 4) == ["middle"]
    assert controls(DATA, 12) == ["middle", "random", "worst"]


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
