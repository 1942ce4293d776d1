from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pydantic import ValidationError

from mmie.arm_options import Curriculum, EarlyStopping, Reweighting, Training
from mmie.errors import InputError
from mmie.objectives.catalogue import FORGET, RETAIN
from mmie.objectives.registry import FORGET_LOSSES
from mmie.training import settings as module
from mmie.training.settings import TrainingSettings


@pytest.mark.regression("TRN-19")
@pytest.mark.parametrize(
    ("section", "kind"),
    [
        (Training, TrainingSettings),
        (Curriculum, module.Curriculum),
        (Reweighting, module.Reweighting),
        (EarlyStopping, module.EarlyStopping),
    ],
)
def test_every_constant_of_a_run_is_in_the_configuration_with_the_same_default(
    section: Any, kind: Any
) -> None:
    configured = {name: field.default for name, field in section.model_fields.items()}
    assert configured == {field.name: field.default for field in fields(kind)}


@pytest.mark.regression("TRN-19")
@pytest.mark.parametrize(
    "key",
    [
        "steps", "learning_rate", "beta", "objective", "micro_batch", "forget_batch", "clip", "bound",
        "dual_rate", "checkpoint_every", "epochs",
    ],
)  # fmt: skip
def test_a_zero_is_refused_and_never_means_the_default(key: str) -> None:
    with pytest.raises(InputError, match=rf"training\.{key} = "):
        TrainingSettings.from_options({key: 0})
    with pytest.raises(ValidationError):
        Training(**{key: 0})


def test_a_zero_that_means_something_is_taken_literally() -> None:
    settings = TrainingSettings.from_options({"retain_weight": 0, "warmup_share": 0, "weight_decay": 0})
    assert (settings.retain_weight, settings.warmup_share, settings.weight_decay) == (0, 0, 0)
    assert TrainingSettings(objective="satimp", saturation_power=0.0).options["saturation_power"] == 0.0


def test_every_objective_of_the_catalogue_has_a_loss() -> None:
    assert set(FORGET_LOSSES) == set(FORGET)


def test_an_objective_brings_its_own_defaults() -> None:
    for objective, beta in (("npo", 0.1), ("simnpo", 2.5), ("wga", 1.0), ("undial", 10.0)):
        settings = TrainingSettings(objective=objective)
        assert settings.as_options()["beta"] == settings.options["beta"] == beta
        assert TrainingSettings.from_options(settings.as_options()).options == settings.options


@pytest.mark.regression("TRN-27")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rte": 0.1}, r"training\.learning_rte: unknown key"),
        ({"curriculum": {"ordr": "x"}}, r"training\.curriculum\.ordr: unknown key"),
        ({"objective": "nppo"}, r"Did you mean 'npo'\?"),
        ({"objective": "satimp", "beta": 1.0}, "does not use it. Remove it; their options are: importance"),
        ({"delta": 1.0}, "objective 'npo' .* does not use it"),
        ({"retain_layers": [1]}, "does not use it"),
        ({"retain_objective": "hidden"}, "needs the numbers of blocks. Give a list"),
        ({"objective": "gradient_ascent"}, "Set objective: graddiff, or retain_weight: 0"),
        ({"objective": "graddiff", "retain_weight": 0}, "set objective: gradient_ascent"),
        ({"objective": "pdu"}, "dual_limit: .* Give a number"),
        ({"epochs": 2}, "give one of them and set the other to null"),
        ({"steps": None}, "give one of them and set the other to null"),
        ({"tail": "drop"}, "no effect without epochs. Remove it"),
        ({"retain_learning_rate": 0.1}, "Set optimisers: dual, or remove it"),
        ({"forget_weight": 0, "retain_weight": 0}, "nothing would be trained"),
        ({"schedule": "alternating", "retain_weight": 0}, "set schedule: joint"),
        ({"optimisers": "dual", "forget_weight": 0}, "set optimisers: one"),
        ({"schedule": "odd"}, "choose one of joint, alternating"),
        ({"reweighting": {"minimum": 2, "maximum": 1}}, "maximum must not be below minimum"),
        ({"early_stopping": {"held_out_share": 0.95}}, "must be <= 0.9"),
    ],
)
def test_what_would_be_without_effect_is_refused_with_the_remedy(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        TrainingSettings.from_options(options)
    with pytest.raises(ValidationError):
        Training(**options)


@pytest.mark.parametrize("objective", FORGET)
@pytest.mark.parametrize("retain_objective", RETAIN)
def test_every_pair_of_objectives_can_be_configured(objective: str, retain_objective: str) -> None:
    more: dict[str, Any] = {"retain_layers": [1]} if retain_objective == "hidden" else {}
    more |= {"retain_weight": 0.0} if objective == "gradient_ascent" else {}
    more |= {"dual_limit": 0.1} if objective == "pdu" else {}
    section = Training(objective=objective, retain_objective=retain_objective, **more)
    settings = TrainingSettings.from_options(section.model_dump())
    assert (settings.objective, settings.retain_objective) == (objective, retain_objective)
