from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmie.interventions.operations import ablate, add, clamp, component, project

SEEDS = st.integers(0, 10_000)


def draw(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(2, 5, 8, generator=generator) * 3
    return hidden, torch.nn.functional.normalize(torch.randn(8, generator=generator), dim=0)


@pytest.mark.regression("SAE-22")
@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_turning_the_direction_round_leaves_ablate_and_reverses_add(seed: int) -> None:
    hidden, v = draw(seed)
    assert torch.allclose(ablate(hidden, -v), ablate(hidden, v), atol=1e-5)
    assert torch.allclose(add(hidden, -v, 2.0) - hidden, hidden - add(hidden, v, 2.0), atol=1e-5)
    assert torch.allclose(component(add(hidden, v, 2.0), v), component(hidden, v) + 2, atol=1e-4)


@pytest.mark.regression("SAE-22")
@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_each_operation_sets_the_component_it_promises(seed: int) -> None:
    hidden, v = draw(seed)
    before = component(hidden, v)
    assert torch.allclose(component(ablate(hidden, v), v), torch.zeros(2, 5), atol=1e-4)
    assert torch.allclose(component(ablate(hidden, v, mean=1.5), v), torch.full((2, 5), 1.5), atol=1e-4)
    assert torch.allclose(component(clamp(hidden, v, 0.5), v), before.clamp(max=0.5), atol=1e-4)
    below = before <= 0.5
    assert torch.equal(clamp(hidden, v, 0.5)[below], hidden[below])


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_ablation_twice_is_ablation_once_and_touches_nothing_else(seed: int) -> None:
    hidden, v = draw(seed)
    once = ablate(hidden, v)
    assert torch.allclose(ablate(once, v), once, atol=1e-5)
    other = torch.randn(8)
    other -= (other @ v) * v
    assert torch.allclose(component(once, other), component(hidden, other), atol=1e-4)


@pytest.mark.parametrize(
    "act",
    [
        lambda h, v: ablate(h, v, strength=0.0),
        lambda h, v: add(h, v, 0.0),
        lambda h, v: clamp(h, v, 0.0, strength=0.0),
        lambda h, v: project(h, v[:, None], v[None], torch.ones(8), strength=0.0),
    ],
)
def test_strength_zero_changes_nothing_and_the_type_stays(act: Callable[[Tensor, Tensor], Tensor]) -> None:
    hidden, v = draw(1)
    assert torch.equal(act(hidden, v), hidden)
    assert act(hidden.bfloat16(), v).dtype == torch.bfloat16
