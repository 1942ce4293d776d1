from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmie.activations.storage import load_rows
from mmie.errors import InputError
from mmie.interventions import build
from mmie.models.hooks import capture


def stored(root: Path, language: str) -> np.ndarray:
    store = load_rows(root, 1, [language], "fit")
    return store[np.arange(len(store))].double().numpy()


def test_the_direction_is_the_difference_of_language_means(toy_activations: Path, fitted: Any) -> None:
    arm = fitted("diff_means")
    forget = (stored(toy_activations, "xx").mean(0) + stored(toy_activations, "xx_Latn").mean(0)) / 2
    retain = (stored(toy_activations, "yy").mean(0) + stored(toy_activations, "zz").mean(0)) / 2
    expected = (forget - retain) / np.linalg.norm(forget - retain)
    assert np.allclose(arm.fitted.tensors["layers.1.direction"], expected, atol=1e-6)
    facts = arm.fitted.facts["layers"]["1"]
    along = np.concatenate([stored(toy_activations, name) @ expected for name in ("yy", "zz")])
    assert facts["mean"] == pytest.approx(along.mean(), abs=1e-5)
    assert (along <= facts["ceiling"] + 1e-6).mean() == pytest.approx(0.95, abs=0.01)


IDS = torch.tensor([[1, 5, 9, 40, 22]])


def components(model: Any, arm: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """h.v of the kept tokens without and with the arm."""
    v, found = arm.fitted.tensors["layers.1.direction"], []
    for applied in (False, True):
        with torch.no_grad():
            if applied:
                with arm.applied(model), capture(model, [1]) as seen:
                    model(input_ids=IDS)
            else:
                with capture(model, [1]) as seen:
                    model(input_ids=IDS)
        found.append(seen.hidden[1][0, 1:] @ v)
    return found[0], found[1]


@pytest.mark.regression("SAE-22")
def test_steering_moves_by_residual_norms_and_a_negative_strength_moves_back(
    toy_model: Any, fitted: Any
) -> None:
    for strength in (0.5, -0.5):
        arm = fitted("diff_means", operation="steer", strength=strength)
        before, after = components(toy_model, arm)
        step = -strength * arm.fitted.facts["layers"]["1"]["residual_norm"]
        assert torch.allclose(after - before, torch.full_like(before, step), atol=1e-5)


def test_ablation_leaves_the_retain_mean_and_clamping_the_ceiling(toy_model: Any, fitted: Any) -> None:
    arm = fitted("diff_means", operation="ablate")
    _, after = components(toy_model, arm)
    assert torch.allclose(after, torch.full_like(after, arm.fitted.facts["layers"]["1"]["mean"]), atol=1e-5)
    arm = fitted("diff_means", operation="clamp")
    arm.fitted.facts["layers"]["1"]["ceiling"] = -0.1
    before, after = components(toy_model, arm)
    assert bool((before > -0.1).any())
    assert torch.allclose(after, before.clamp(max=-0.1), atol=1e-5)


@pytest.mark.parametrize("kind", ["diff_means", "leace", "script_scrub", "subspace", "language_neurons"])
def test_strength_zero_is_the_base_bit_for_bit(kind: str, toy_model: Any, fitted: Any, logits: Any) -> None:
    before = logits(toy_model)
    with fitted(kind, strength=0.0).applied(toy_model) as changed:
        assert torch.equal(logits(changed), before)


@pytest.mark.parametrize("direction", ["random", "shuffled"])
def test_control_directions_are_drawn_by_seed(direction: str, fitted: Any) -> None:
    real = fitted("diff_means").fitted.tensors["layers.1.direction"]
    first, again, other = (
        fitted("diff_means", direction=direction, seed=seed).fitted.tensors["layers.1.direction"]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.1)
    assert not torch.allclose(first, real, atol=0.1)
    assert float(first.norm()) == pytest.approx(1, abs=1e-5)


def test_unknown_operations_and_missing_activations_are_said(toy_model: Any) -> None:
    from mmie.interventions import FitData

    with pytest.raises(InputError, match=r"operation 'shift'.*ablate, clamp, steer"):
        build({"kind": "diff_means", "operation": "shift"})
    with pytest.raises(InputError, match="Run the activation stage first"):
        build({"kind": "diff_means"}).fit(toy_model, FitData(layers=(1,)), seed=1)
