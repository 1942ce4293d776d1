"""Checkpoints from which a killed run continues as if nothing had happened.

They live in a directory of their own that no rule declares as an output, one folder an identity (hash
of everything that shapes the run), one folder a step, each put in place by one rename. Finished is
what the arm's own manifest says, never a checkpoint.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmie.errors import InputError
from mmie.io import (
    atomic_directory,
    read_json,
    read_safetensors,
    sha256_file,
    write_json,
    write_safetensors,
)

TENSOR_FILES = ("parameters", "optimiser", "generators")


@dataclass
class Checkpoint:
    """The state between two optimiser steps."""

    step: int
    """Steps done."""
    parameters: dict[str, Tensor]
    """Trained tensors by name."""
    optimiser: dict[str, Tensor]
    """`{name}.exp_avg`, `{name}.exp_avg_sq` and `{name}.step` of each."""
    generators: dict[str, Tensor]
    """States of torch's generators, by device."""
    positions: dict[str, int]
    """Draws already served by each sampler; the next one is the first not yet trained on."""
    history: list[dict[str, Any]]
    """Rows of the steps done."""


def save_checkpoint(root: Path, identity: str, checkpoint: Checkpoint, *, keep: int = 2) -> Path:
    """Write a checkpoint and remove all but the newest `keep` by step number.

    Args:
        root: checkpoint directory of the run.
        identity: hash of configuration, data, seed, base weights and library versions.
        checkpoint: what to write.
        keep: how many to retain; the one just written is never removed.

    Returns:
        Its folder.
    """
    folder = _folder(root, identity) / f"step-{checkpoint.step:08d}"
    with atomic_directory(folder) as partial:
        for name in TENSOR_FILES:
            write_safetensors(partial / f"{name}.safetensors", getattr(checkpoint, name))
        state = {
            "identity": identity,
            "step": checkpoint.step,
            "positions": checkpoint.positions,
            "history": checkpoint.history,
            "files": {
                f"{name}.safetensors": sha256_file(partial / f"{name}.safetensors") for name in TENSOR_FILES
            },
        }
        write_json(partial / "state.json", state)
    for old in _complete(folder.parent)[:-keep]:
        if old != folder:
            shutil.rmtree(old)
    return folder


def newest_checkpoint(root: Path, identity: str) -> Checkpoint | None:
    """The checkpoint of the highest step that belongs to this run, or None.

    Raises:
        InputError: it lacks an item, a file changed since it was written, or it is of another run.
    """
    folders = _complete(_folder(root, identity))
    return read_checkpoint(folders[-1], identity) if folders else None


def read_checkpoint(folder: Path, identity: str) -> Checkpoint:
    """Read one checkpoint; errors as in `newest_checkpoint`."""
    state = read_json(folder / "state.json")
    expected = {"identity", "step", "positions", "history", "files"}
    files = {f"{name}.safetensors" for name in TENSOR_FILES}
    if set(state) != expected or set(state["files"]) != files:
        raise InputError(f"{folder}/state.json: entries are missing or unknown. Delete the folder.")
    if state["identity"] != identity:
        raise InputError(
            f"{folder}: written by a run with another configuration, data or code. Delete the folder."
        )
    for name, digest in state["files"].items():
        if not (folder / name).exists() or sha256_file(folder / name) != digest:
            raise InputError(f"{folder}/{name}: missing or damaged. Delete the folder.")
    tensors = {name: read_safetensors(folder / f"{name}.safetensors") for name in TENSOR_FILES}
    return Checkpoint(step=state["step"], positions=state["positions"], history=state["history"], **tensors)


def remove_checkpoints(root: Path) -> None:
    """Remove every checkpoint of an arm, also those of earlier configurations."""
    if root.exists():
        shutil.rmtree(root)


def optimiser_tensors(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """State of an AdamW as flat tensors, `{parameter}.{quantity}`."""
    return {
        f"{name}.{quantity}": value.detach().clone()
        for name, parameter in parameters.items()
        for quantity, value in optimiser.state[parameter].items()
    }


def restore(
    checkpoint: Checkpoint,
    parameters: Mapping[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
) -> None:
    """Put parameters, optimiser state and generators back, in place.

    Raises:
        InputError: names or shapes are not exactly those of the live run.
    """
    _check(checkpoint.parameters, {name: value.shape for name, value in parameters.items()})
    quantities = ("exp_avg", "exp_avg_sq", "step")
    shapes = {
        f"{name}.{quantity}": torch.Size([]) if quantity == "step" else value.shape
        for name, value in parameters.items()
        for quantity in quantities
    }
    _check(checkpoint.optimiser, shapes)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(checkpoint.parameters[name])
            state = {quantity: checkpoint.optimiser[f"{name}.{quantity}"] for quantity in quantities}
            for quantity in ("exp_avg", "exp_avg_sq"):
                state[quantity] = state[quantity].to(parameter.device)
            optimiser.state[parameter] = state
    set_generator_states(checkpoint.generators)


def generator_states() -> dict[str, Tensor]:
    """States of the generators that a forward pass may draw from."""
    states = {"cpu": torch.get_rng_state()}
    for device in range(torch.cuda.device_count()):
        states[f"cuda:{device}"] = torch.cuda.get_rng_state(device)
    return states


def set_generator_states(states: Mapping[str, Tensor]) -> None:
    """Inverse of `generator_states`; a device that the states lack is an InputError."""
    if set(states) != set(generator_states()):
        raise InputError("checkpoint: written on other devices. Delete the checkpoint folder.")
    torch.set_rng_state(states["cpu"])
    for device in range(torch.cuda.device_count()):
        torch.cuda.set_rng_state(states[f"cuda:{device}"], device)


def _check(found: Mapping[str, Tensor], expected: Mapping[str, torch.Size]) -> None:
    wrong = sorted(
        name
        for name in {*found, *expected}
        if name not in found or name not in expected or found[name].shape != expected[name]
    )
    if wrong:
        raise InputError(
            f"checkpoint: tensors {wrong[:4]} are missing, unexpected or of another shape. "
            "Delete the checkpoint folder."
        )


def _folder(root: Path, identity: str) -> Path:
    return Path(root) / identity[:16]


def _complete(folder: Path) -> list[Path]:
    """Checkpoints by rising step; half-written ones carry another name."""
    if not folder.exists():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"step-\d{8}", path.name))
