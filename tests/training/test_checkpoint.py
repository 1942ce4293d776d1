from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from mmie.errors import InputError
from mmie.io import read_json, write_json
from mmie.training.checkpoint import (
    Checkpoint,
    generator_states,
    newest_checkpoint,
    optimiser_tensors,
    remove_checkpoints,
    restore,
    save_checkpoint,
)

IDENTITY = "a" * 64


def checkpoint(step: int) -> Checkpoint:
    parameter = nn.Parameter(torch.full((2, 3), float(step)))
    optimiser = torch.optim.AdamW([parameter])
    parameter.grad = torch.ones(2, 3)
    optimiser.step()
    return Checkpoint(
        step=step,
        parameters={"w": parameter.detach().clone()},
        optimiser=optimiser_tensors(optimiser, {"w": parameter}),
        generators=generator_states(),
        positions={"forget": step * 4, "retain": step * 4},
        history=[{"step": number, "forget_loss": 0.1 + number} for number in range(step)],
    )


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    written = checkpoint(3)
    save_checkpoint(tmp_path, IDENTITY, written)
    read = newest_checkpoint(tmp_path, IDENTITY)
    assert read is not None
    assert (read.step, read.positions, read.history) == (3, written.positions, written.history)
    for name in ("parameters", "optimiser", "generators"):
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
        "state.json", "step", "positions", "history", "files", "identity",
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
    other = "b" * 64
    assert newest_checkpoint(tmp_path, other) is None
    shutil.copytree(folder, tmp_path / other[:16] / folder.name)
    with pytest.raises(InputError, match="another configuration"):
        newest_checkpoint(tmp_path, other)


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
        optimiser = torch.optim.AdamW([parameter])
        with pytest.raises(InputError, match="missing, unexpected or of another shape"):
            restore(saved, {name: parameter}, optimiser)
        assert torch.equal(parameter, torch.zeros(shape))
        assert not optimiser.state


def test_removing_takes_earlier_configurations_too(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", IDENTITY, checkpoint(2))
    save_checkpoint(tmp_path / "c", "b" * 64, checkpoint(2))
    remove_checkpoints(tmp_path / "c")
    assert not (tmp_path / "c").exists()
    remove_checkpoints(tmp_path / "c")
