from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mmie.errors import InputError
from mmie.io import read_json, write_json
from mmie.training.checkpoint import (
    Checkpoint,
    differing_keys,
    newest_checkpoint,
    remove_checkpoints,
    restore,
    save_checkpoint,
)
from mmie.training.generators import generator_states, set_generator_states
from mmie.training.plan import plan_steps
from mmie.training.settings import TrainingSettings
from mmie.training.updates import Updates

IDENTITY = {"training": {"learning_rate": 0.1, "beta": 0.1}, "seed": 1}
OTHER = {"training": {"learning_rate": 0.2, "beta": 0.1}, "seed": 1, "data": {"forget": "f0"}}
SETTINGS = TrainingSettings(steps=10)


def updates_of(parameters: dict[str, nn.Parameter]) -> Updates:
    return Updates(parameters, SETTINGS, plan_steps(SETTINGS, 4))


def checkpoint(step: int) -> Checkpoint:
    parameter = nn.Parameter(torch.full((2, 3), float(step)))
    updates = updates_of({"w": parameter})
    parameter.grad = torch.ones(2, 3)
    updates.apply("joint", 0)
    return Checkpoint(
        step=step,
        parameters={"w": parameter.detach().clone()},
        optimiser=updates.state(),
        generators=generator_states(),
        positions={"forget": step * 4, "retain": step * 4},
        history=[{"step": number, "forget_loss": 0.1 + number} for number in range(step)],
        callbacks={"remembered": torch.arange(3.0, dtype=torch.float64)},
        run={"micro_batch": 3},
    )


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    written = checkpoint(3)
    save_checkpoint(tmp_path, IDENTITY, written)
    read = newest_checkpoint(tmp_path, IDENTITY)
    assert read is not None
    assert (read.step, read.positions, read.history) == (3, written.positions, written.history)
    assert read.run == written.run
    for name in ("parameters", "optimiser", "generators", "callbacks"):
        before, after = getattr(written, name), getattr(read, name)
        assert set(before) == set(after)
        assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.regression("RES-09")
def test_retention_goes_by_step_and_never_removes_what_was_just_written(tmp_path: Path) -> None:
    for _ in range(8):
        folder = save_checkpoint(tmp_path, IDENTITY, checkpoint(4), keep=3)
    assert folder.exists()
    for step in (5, 6, 7, 8):
        save_checkpoint(tmp_path, IDENTITY, checkpoint(step), keep=3)
    names = sorted(path.name for path in folder.parent.iterdir())
    assert names == ["step-00000006", "step-00000007", "step-00000008"]


@pytest.mark.regression("RES-10")
def test_the_highest_step_wins_whatever_the_file_times_say(tmp_path: Path) -> None:
    old = save_checkpoint(tmp_path, IDENTITY, checkpoint(2))
    save_checkpoint(tmp_path, IDENTITY, checkpoint(9))
    os.utime(old)
    found = newest_checkpoint(tmp_path, IDENTITY)
    assert found is not None and found.step == 9


@pytest.mark.regression("RES-14")
def test_a_half_written_folder_is_ignored(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, IDENTITY, checkpoint(2))
    half = folder.with_name(".step-00000009.abcd.partial")
    shutil.copytree(folder, half)
    (half / "state.json").unlink()
    found = newest_checkpoint(tmp_path, IDENTITY)
    assert found is not None and found.step == 2


@pytest.mark.regression("RES-08", "RES-13")
@pytest.mark.parametrize(
    "item",
    [
        "parameters.safetensors", "optimiser.safetensors", "generators.safetensors",
        "callbacks.safetensors", "state.json", "step", "positions", "history", "run", "files", "identity",
    ],
)  # fmt: skip
def test_a_checkpoint_that_lacks_an_item_is_an_error(tmp_path: Path, item: str) -> None:
    folder = save_checkpoint(tmp_path, IDENTITY, checkpoint(2))
    if (folder / item).exists():
        (folder / item).unlink()
    else:
        state = read_json(folder / "state.json")
        del state[item]
        write_json(folder / "state.json", state)
    with pytest.raises(InputError):
        newest_checkpoint(tmp_path, IDENTITY)


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, IDENTITY, checkpoint(2))
    file = folder / "parameters.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"parameters\.safetensors: missing or damaged"):
        newest_checkpoint(tmp_path, IDENTITY)


def test_another_configuration_neither_sees_nor_accepts_it(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, IDENTITY, checkpoint(2))
    assert newest_checkpoint(tmp_path, OTHER) is None
    elsewhere = save_checkpoint(tmp_path, OTHER, checkpoint(2))
    shutil.rmtree(elsewhere)
    shutil.copytree(folder, elsewhere)
    with pytest.raises(InputError, match=r"these differ: data\.forget, training\.learning_rate\."):
        newest_checkpoint(tmp_path, OTHER)


def test_differing_keys_are_found_at_any_depth_and_order_does_not_matter() -> None:
    assert differing_keys({"a": {"b": 1, "c": [1]}, "d": 2}, {"d": 2, "a": {"c": [1], "b": 1}}) == []
    assert differing_keys({"a": {"b": 1}, "d": 2}, {"a": {"b": 1.5}}) == ["a.b", "d"]


@pytest.mark.regression("RES-09")
def test_retention_never_removes_the_best(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 5):
        folder = save_checkpoint(tmp_path, IDENTITY, checkpoint(step), keep=2, best=2)
    names = sorted(path.name for path in folder.parent.iterdir())
    assert names == ["step-00000002", "step-00000004", "step-00000005"]


@pytest.mark.regression("RES-05")
def test_every_generator_goes_on_where_it_stood() -> None:
    def draws() -> list[float]:
        return [random.random(), random.gauss(0, 1), float(np.random.normal()), float(torch.rand(()))]

    kept = generator_states()
    try:
        random.gauss(0, 1)
        np.random.normal()
        state = generator_states()
        first = draws()
        draws()
        set_generator_states(state)
        assert draws() == first
    finally:
        set_generator_states(kept)


@pytest.mark.regression("RES-15")
def test_a_checkpoint_holds_tensors_and_json_only(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, IDENTITY, checkpoint(2))
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}
    json.loads((folder / "state.json").read_text())


@pytest.mark.regression("RES-02")
def test_other_names_or_shapes_are_refused_before_anything_is_restored(tmp_path: Path) -> None:
    saved = checkpoint(2)
    for name, shape in (("w", (2, 4)), ("v", (2, 3))):
        parameter = nn.Parameter(torch.zeros(shape))
        updates = updates_of({name: parameter})
        with pytest.raises(InputError, match="missing, unexpected or of another shape"):
            restore(saved, {name: parameter}, updates)
        assert torch.equal(parameter, torch.zeros(shape))
        assert not updates.state()


def test_removing_takes_earlier_configurations_too(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", IDENTITY, checkpoint(2))
    save_checkpoint(tmp_path / "c", OTHER, checkpoint(2))
    remove_checkpoints(tmp_path / "c")
    assert not (tmp_path / "c").exists()
    remove_checkpoints(tmp_path / "c")
