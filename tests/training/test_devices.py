"""Training on a model that is spread over two devices goes as it does on the processor."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from elsewhere import place

from mmie.models.hooks import edit
from mmie.objectives.catalogue import RETAIN
from mmie.training.loop import train
from mmie.training.sets import TrainingSets
from mmie.training.settings import TrainingSettings

SETTINGS = TrainingSettings(steps=2, learning_rate=0.05, forget_batch=5, retain_batch=4, checkpoint_every=2)


@pytest.mark.regression("ACT-30")
@pytest.mark.parametrize(("first", "rest"), [("elsewhere", "cpu"), ("cpu", "elsewhere")])
@pytest.mark.parametrize("retain_objective", RETAIN)
def test_every_retain_objective_trains_over_two_devices(
    retain_objective: str,
    first: str,
    rest: str,
    toy_model: Any,
    shift: Any,
    toy_sets: TrainingSets,
    elsewhere: Any,
) -> None:
    blocks = (0, 1) if retain_objective == "hidden" else None
    settings = replace(SETTINGS, retain_objective=retain_objective, retain_layers=blocks)

    def run(model: Any, trained: Any) -> Any:
        with edit(model, {0: trained}):
            return train(model, dict(trained.named_parameters()), toy_sets, settings, seed=1)

    moved = deepcopy(shift).to(first)
    here = run(toy_model, shift)
    there = run(place(toy_model, first, rest), moved)
    for column in ("forget_loss", "retain_loss", "grad_norm"):
        assert there[column].tolist() == pytest.approx(here[column].tolist(), rel=1e-3, abs=1e-5)
    assert here["retain_loss"].abs().max() > 0
    assert torch.allclose(moved.vector.cpu(), shift.vector, atol=1e-3)
