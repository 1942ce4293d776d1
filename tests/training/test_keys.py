"""Every key of a training run has an effect that shows, and a misspelt one is an error."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmie.arm_options import LoraArm
from mmie.configuration import read_configuration
from mmie.errors import InputError
from mmie.models.hooks import edit
from mmie.training import settings as module
from mmie.training.loop import train
from mmie.training.preparation import hold_out, with_alternates
from mmie.training.sets import TrainingSets
from mmie.training.settings import TrainingSettings

BASE = {
    "steps": 6, "learning_rate": 0.05, "forget_batch": 4, "retain_batch": 4, "warmup_share": 0.0,
}  # fmt: skip
EPOCHS = {"steps": None, "epochs": 2, "forget_batch": 5}
CURRICULUM, STOPPING = {"curriculum": {}}, {"early_stopping": {"every": 2, "patience": 9}}
OFTEN = {"reweighting": {"every": 2}}
PDU = {"objective": "pdu", "dual_limit": 0.5, "retain_objective": "nll"}
EFFECTS: dict[str, tuple[dict[str, Any], Any]] = {
    "steps": ({}, 5),
    "epochs": (EPOCHS, 3),
    "tail": (EPOCHS, "drop"),
    "learning_rate": ({}, 0.04),
    "forget_batch": ({}, 3),
    "retain_batch": ({}, 3),
    "micro_batch": ({}, 2),
    "objective": ({}, "bounded"),
    "retain_objective": ({}, "jsd"),
    "beta": ({}, 0.5),
    "delta": ({"objective": "simnpo"}, 1.0),
    "bound": ({"objective": "bounded"}, 0.5),
    "preference_scale": ({"objective": "altpo", "clip": 0.1, "retain_weight": 5.0}, "two_over_beta"),
    "saturation_power": ({"objective": "satimp"}, 1.0),
    "importance_power": ({"objective": "satimp"}, 3.0),
    "dual_rate": (PDU, 3.0),
    "dual_limit": (PDU, 0.1),
    "reference": ({}, "cached"),
    "reference_top": ({"reference": "cached"}, 2),
    "retain_layers": ({"retain_objective": "hidden", "retain_layers": [1]}, [0]),
    "forget_weight": ({}, 0.3),
    "retain_weight": ({}, 9.0),
    "schedule": ({}, "alternating"),
    "optimisers": ({}, "dual"),
    "retain_learning_rate": ({"optimisers": "dual"}, 0.5),
    "warmup_share": ({}, 0.5),
    "weight_decay": ({}, 0.5),
    "clip": ({}, 1e-9),
    "checkpoint_every": ({}, 2),
    "language_weights": ({}, {"xx": 1.0, "yy": 1.0, "zz": 5.0}),
    "curriculum": ({}, {}),
    "curriculum.order": (CURRICULUM, "hard_first"),
    "curriculum.temperature": (CURRICULUM, 0.01),
    "curriculum.moments": (CURRICULUM, "reset"),
    "reweighting": ({}, {}),
    "reweighting.every": (OFTEN, 3),
    "reweighting.temperature": (OFTEN, 0.01),
    "reweighting.minimum": ({"reweighting": {"every": 2, "temperature": 0.01}}, 0.9),
    "reweighting.maximum": ({"reweighting": {"every": 2, "temperature": 0.01, "minimum": 1.0}}, 1.0),
    "early_stopping": ({}, {"every": 2}),
    "early_stopping.every": (STOPPING, 3),
    "early_stopping.patience": ({"early_stopping": {"every": 2, "improvement": 99.0, "patience": 3}}, 1),
    "early_stopping.improvement": ({"early_stopping": {"every": 2, "patience": 1}}, 99.0),
    "early_stopping.held_out_share": (STOPPING, 0.5),
}
"""For each key, a run and another value of the key."""


def keys(kind: Any = TrainingSettings, prefix: str = "") -> set[str]:
    """Every key, with those of parts as `part.key`."""
    found = {f"{prefix}{field.name}" for field in fields(kind)}
    for name, part in module._PARTS.items() if kind is TrainingSettings else ():
        assert is_dataclass(part)
        found |= keys(part, f"{name}.")
    return found


def outcome(options: dict[str, Any], given: dict[str, Any], folder: Path) -> tuple[Any, ...]:
    """What a run leaves: the trained bytes, how often the model was run, and which checkpoints."""
    settings, model, shift = TrainingSettings(**options), given["model"], given["shift"]
    sets: TrainingSets = given["sets"]
    torch.nn.init.zeros_(shift.vector)
    if settings.forget_term.alternates:
        sets = with_alternates(sets, model, given["tokenizer"], given["forget"], settings.objective, seed=1)
    if settings.early_stopping:
        sets = hold_out(sets, given["forget"], given["retain"], settings, seed=1)
    passes: list[int] = []
    handle = model.register_forward_hook(lambda *_: passes.append(1))
    with edit(model, {0: shift}):
        train(model, {"v": shift.vector}, sets, settings, seed=1, checkpoints=folder, identity={})
    handle.remove()
    saved = sorted(path.name for path in folder.glob("*/step-*"))
    return shift.vector.detach().numpy().tobytes(), len(passes), saved


@pytest.fixture
def given(
    toy_model: Any, toy_tokenizer: Any, toy_rows: Any, toy_sets: TrainingSets, shift: Any
) -> dict[str, Any]:
    forget, retain = toy_rows("xx"), toy_rows("yy", first_word=31)
    # A second retain language, so that a weight between languages has something to choose.
    languages = ["yy" if place % 2 else "zz" for place in range(len(retain))]
    sets = replace(toy_sets, retain=replace(toy_sets.retain, languages=languages))
    return {
        "model": toy_model, "tokenizer": toy_tokenizer, "sets": sets, "shift": shift,
        "forget": forget, "retain": retain.assign(language=languages),
    }  # fmt: skip


def test_no_key_is_left_out() -> None:
    assert set(EFFECTS) == keys()


@pytest.mark.regression("TRN-25")
@pytest.mark.parametrize("key", EFFECTS)
def test_every_key_is_read_and_changes_the_run(key: str, given: dict[str, Any], tmp_path: Path) -> None:
    own, value = EFFECTS[key]
    options = {**BASE, **own}
    part, _, name = key.rpartition(".")
    changed = {**options, part: {**options[part], name: value}} if part else {**options, key: value}
    if key == "language_weights":
        given["sets"] = replace(
            given["sets"], forget=replace(given["sets"].forget, languages=given["sets"].retain.languages)
        )
    first = outcome(options, given, tmp_path / "one")
    assert outcome(options, given, tmp_path / "again") == first
    assert outcome(changed, given, tmp_path / "two") != first


@pytest.mark.regression("TRN-25")
@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"learning_rat": 1}, "learning_rat: unknown key. Did you mean 'learning_rate'"),
        ({"warmup_steps": 1}, "warmup_steps: unknown key"),
        ({"early_stopping": {"patienc": 1}}, "patienc: unknown key. Did you mean 'patience'"),
    ],
)
def test_a_misspelt_key_is_an_error(training: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_configuration({"arms": {"x": {"kind": "lora", "training": training}}})


@pytest.mark.regression("TRN-25")
def test_the_file_and_the_loop_know_the_same_keys_with_the_same_defaults() -> None:
    assert LoraArm(kind="lora").training.model_dump() == {
        field.name: getattr(TrainingSettings(), field.name) for field in fields(TrainingSettings)
    }
