from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from mmie.errors import InputError
from mmie.models.hooks import edit
from mmie.training.checkpoint import newest_checkpoint
from mmie.training.loop import train
from mmie.training.plan import plan_steps
from mmie.training.sets import TrainingSets
from mmie.training.settings import TrainingSettings
from mmie.training.updates import Updates, check_overlap


def updates_of(parameter: nn.Parameter, **options: Any) -> Updates:
    settings = TrainingSettings(steps=10, warmup_share=0.0, learning_rate=0.1, **options)
    return Updates({"w": parameter}, settings, plan_steps(settings, 8))


@pytest.mark.regression("TRN-18")
@pytest.mark.parametrize("optimisers", ["one", "dual"])
def test_weight_decay_acts_once_a_step(optimisers: str) -> None:
    """With a gradient of zero AdamW only decays: w (1 - rate * decay), once, however many optimisers."""
    parameter = nn.Parameter(torch.ones(3))
    updates = updates_of(parameter, optimisers=optimisers, weight_decay=0.5)
    for name in updates.optimisers:
        parameter.grad = torch.zeros(3)
        updates.apply(name, 0)
    assert parameter.tolist() == pytest.approx([0.95] * 3)


@pytest.mark.regression("TRN-18")
def test_optimisers_that_share_a_parameter_unasked_are_refused() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimisers = {name: torch.optim.AdamW([parameter]) for name in ("forget", "retain")}
    with pytest.raises(InputError, match="'forget' and 'retain' share a parameter"):
        check_overlap(optimisers, declared=False)
    check_overlap(optimisers, declared=True)


@pytest.mark.regression("TRN-18")
def test_a_checkpoint_holds_the_moments_of_both_optimisers(
    tmp_path: Any, toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    settings = TrainingSettings(
        steps=4, learning_rate=0.05, retain_learning_rate=0.01, forget_batch=4, retain_batch=4,
        optimisers="dual", checkpoint_every=4,
    )  # fmt: skip
    with edit(toy_model, {0: shift}):
        history = train(
            toy_model,
            {"v": shift.vector},
            toy_sets,
            settings,
            seed=1,
            checkpoints=tmp_path,
            identity={"a": 1},
        )
    found = newest_checkpoint(tmp_path, {"a": 1})
    assert found is not None
    assert {name for name in found.optimiser if name.endswith("exp_avg")} == {
        "forget/v.exp_avg", "retain/v.exp_avg",
    }  # fmt: skip
    assert not torch.equal(found.optimiser["forget/v.exp_avg"], found.optimiser["retain/v.exp_avg"])
    assert (history[["forget_update", "retain_update"]] > 0).all(axis=None)
    assert (history["lr"] / history["retain_lr"]).tolist() == pytest.approx([5.0] * 4)


def test_with_two_optimisers_alternating_each_has_its_own_schedule() -> None:
    updates = updates_of(nn.Parameter(torch.ones(1)), optimisers="dual", schedule="alternating")
    rates = [updates.rate("forget", number) for number in range(0, 10, 2)]
    assert rates == pytest.approx([0.1, 0.08, 0.06, 0.04, 0.02])
    assert [updates.rate("retain", number) for number in range(1, 10, 2)] == pytest.approx(rates)


@pytest.mark.regression("TRN-27")
def test_with_two_optimisers_adam_cancels_the_weights_and_with_one_it_does_not() -> None:
    """Why the rates are the weights there: a loss times 10 gives the same first step."""
    steps = []
    for optimisers, names in (("one", ["joint"]), ("dual", ["forget", "retain"])):
        for scale in (1.0, 10.0):
            parameter = nn.Parameter(torch.zeros(1))
            updates = updates_of(parameter, optimisers=optimisers, clip=1e9)
            gradients = {"forget": torch.tensor([scale]), "retain": torch.tensor([-3.0])}
            gradients["joint"] = gradients["forget"] + gradients["retain"]
            for name in names:
                parameter.grad = gradients[name].clone()
                updates.apply(name, 0)
            steps.append(parameter.item())
    one, one_scaled, dual, dual_scaled = steps
    assert math.copysign(1, one) != math.copysign(1, one_scaled)
    assert dual == pytest.approx(dual_scaled, abs=1e-6)


@pytest.mark.regression("RES-16")
@pytest.mark.parametrize("moments", ["carry", "reset"])
def test_moments_at_the_start_of_a_stage_are_those_declared(
    moments: str, toy_model: Any, shift: Any, toy_sets: TrainingSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine steps: stages begin with steps 3 and 6. Looked at after one step and before the next."""
    before: list[dict[str, torch.Tensor]] = []
    after: list[dict[str, torch.Tensor]] = []
    clip, apply = Updates.clip, Updates.apply

    def noting_clip(self: Updates, where: str) -> float:
        before.append(self.state())
        return clip(self, where)

    def noting_apply(self: Updates, name: str, number: int) -> dict[str, float]:
        columns = apply(self, name, number)
        after.append(self.state())
        return columns

    monkeypatch.setattr(Updates, "clip", noting_clip)
    monkeypatch.setattr(Updates, "apply", noting_apply)
    settings = TrainingSettings(
        steps=9, learning_rate=0.05, forget_batch=4, retain_batch=4, curriculum={"moments": moments}
    )
    with edit(toy_model, {0: shift}):
        history = train(toy_model, {"v": shift.vector}, toy_sets, settings, seed=1)
    for step in range(1, 9):
        begins = moments == "reset" and step in (3, 6)
        for name, value in before[step].items():
            assert torch.equal(value, torch.zeros_like(value) if begins else after[step - 1][name]), name
        assert float(after[step]["joint/v.step"]) == (step % 3 if moments == "reset" else step) + 1
    if moments == "reset":
        assert history["moments_reset"].tolist() == [step in (3, 6) for step in range(9)]
    assert settings.as_options()["curriculum"]["moments"] == moments
