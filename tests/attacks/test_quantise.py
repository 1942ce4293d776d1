from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from mmie.attacks.quantise import NF4_LEVELS, quantise, quantised, round_int8, round_nf4
from mmie.attacks.weights import merged, on_copies
from mmie.errors import InputError
from mmie.interventions import assert_restored
from mmie.models.hooks import hook_count

weights = st.builds(
    lambda seed, rows, columns, scale: (
        torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * scale
    ),
    st.integers(0, 10_000),
    st.integers(1, 5),
    st.integers(1, 150),
    st.sampled_from([1e-4, 1.0, 300.0]),
)


def test_int8_rounds_each_output_channel_by_its_own_scale() -> None:
    weight = torch.tensor([[127.0, 64.4, -1.2, 0.3], [0.0, 0.0, 0.0, 0.0], [-254.0, 3.1, 1.2, 0.9]])
    expected = torch.tensor([[127.0, 64.0, -1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [-254.0, 4.0, 2.0, 0.0]])
    assert torch.equal(round_int8(weight), expected)


@given(weights)
@settings(max_examples=50, deadline=None)
def test_int8_is_off_by_half_a_step_at_most_and_settles_at_once(weight: torch.Tensor) -> None:
    rounded = round_int8(weight)
    step = weight.abs().amax(1, keepdim=True) / 127
    assert ((rounded - weight).abs() <= step * (0.5 + 1e-4)).all()
    torch.testing.assert_close(round_int8(rounded), rounded, rtol=1e-6, atol=0)


def test_nf4_levels_are_the_normal_quantiles_of_the_paper() -> None:
    # Eight positive and seven negative quantiles of N(0, 1) and an exact zero, scaled to [-1, 1].
    highest = 0.9677083
    positive = norm.ppf(np.linspace(highest, 0.5, 9)[:-1])
    negative = -norm.ppf(np.linspace(highest, 0.5, 8)[:-1])
    expected = np.sort(np.concatenate([positive, [0.0], negative])) / positive[0]
    np.testing.assert_allclose(NF4_LEVELS, expected, atol=1e-6)


def test_nf4_reproduces_its_own_levels_exactly() -> None:
    weight = torch.tensor([*NF4_LEVELS] * 4) * 4.0
    assert torch.equal(round_nf4(weight.view(4, 16)), weight.view(4, 16))


@given(weights)
@settings(max_examples=50, deadline=None)
def test_nf4_takes_the_nearest_level_of_each_block(weight: torch.Tensor) -> None:
    rounded = round_nf4(weight).flatten().double().numpy()
    flat = weight.flatten().double().numpy()
    for start in range(0, len(flat), 64):
        block = flat[start : start + 64]
        grid = np.array(NF4_LEVELS) * np.abs(block).max()
        nearest = np.abs(block[:, None] - grid[None]).min(1)
        error = np.abs(rounded[start : start + 64] - block)
        np.testing.assert_allclose(error, nearest, atol=1e-6 * np.abs(block).max())


def test_nf4_keeps_a_block_of_zeros_and_blocks_do_not_touch_each_other() -> None:
    weight = torch.cat([torch.zeros(64), torch.linspace(-1, 1, 64), torch.tensor([5.0])])
    rounded = round_nf4(weight)
    assert torch.equal(rounded[:64], torch.zeros(64))
    assert rounded[-1] == 5.0
    assert torch.equal(rounded[64:128], round_nf4(weight[64:128]))


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("kind", ["none", "oracle", "noise", "lora", "reft"])
def test_every_arm_is_quantised_and_the_base_comes_back(
    kind: str, precision: Any, toy_model: Any, arm: Any, sets: Any, score: Any
) -> None:
    intervention = arm(kind)
    with intervention.applied(toy_model) as changed:
        plain = score(changed, sets[1])["answer_probability"]
    with assert_restored(toy_model):
        table = quantise(toy_model, intervention, sets[1], precision=precision, score=score)
    assert table["example_id"].tolist() == sets[1]["example_id"].tolist()
    assert (table["answer_probability"] != plain).all(), "rounding changes what the model says"
    assert ((table["answer_probability"] - plain).abs() < 0.2).all()


def test_only_linear_layers_of_blocks_are_rounded(toy_model: Any) -> None:
    before = {name: value.clone() for name, value in toy_model.named_parameters()}
    with quantised(toy_model, "int4"):
        changed = {
            name for name, value in toy_model.named_parameters() if not torch.equal(value, before[name])
        }
    assert changed == {name for name in before if name.endswith("_proj.weight")}
    assert all(torch.equal(value, before[name]) for name, value in toy_model.named_parameters())


def test_an_adapter_is_merged_before_the_weights_are_rounded(toy_model: Any, arm: Any) -> None:
    intervention = arm("lora")
    name = "model.layers.0.self_attn.q_proj"
    original = toy_model.get_submodule(name).weight.detach().clone()
    low, high = (intervention.fitted.tensors[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
    expected = round_int8(original + (intervention.alpha / intervention.rank) * high @ low)
    with intervention.applied(toy_model) as changed:
        layer = changed.base_model.model.get_submodule(name)
        with quantised(changed, "int8"):
            torch.testing.assert_close(layer.base_layer.weight.data, expected, rtol=0, atol=1e-6)
            assert layer.merged
        assert not layer.merged
        assert torch.equal(layer.base_layer.weight.data, original)


def test_merging_alone_changes_nothing_but_rounding_errors(toy_model: Any, arm: Any) -> None:
    ids = torch.tensor([[1, 5, 6, 7, 8]])
    with arm("lora").applied(toy_model) as changed, torch.no_grad():
        apart = changed(input_ids=ids).logits
        own = {name: value for name, value in changed.named_parameters() if ".lora_" not in name}
        with on_copies(own), merged(changed):
            together = changed(input_ids=ids).logits
    torch.testing.assert_close(apart, together, rtol=1e-4, atol=1e-5)


def test_edits_of_the_stream_stay_attached(toy_model: Any, arm: Any) -> None:
    with arm("reft").applied(toy_model) as changed:
        attached = hook_count(changed)
        with quantised(changed, "int8"):
            assert hook_count(changed) == attached > 0


def test_a_failure_leaves_no_trace(toy_model: Any, arm: Any, sets: Any) -> None:
    def failing(model: Any, rows: Any) -> Any:
        raise KeyError("scoring failed")

    with assert_restored(toy_model), pytest.raises(KeyError):
        quantise(toy_model, arm("lora"), sets[1], precision="int4", score=failing)
    with pytest.raises(InputError, match="int8: no row to score"):
        quantise(toy_model, arm("none"), sets[1].head(0), precision="int8", score=failing)
