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
    stable_hash,
    write_json,
    write_safetensors,
)
from mmie.training.generators import set_generator_states
from mmie.training.updates import Updates

TENSOR_FILES = ("parameters", "optimiser", "generators", "callbacks")
"""Files of a checkpoint that hold tensors."""

Identity = Mapping[str, Any]
"""Everything that shapes a run as nested JSON content: options, seed, hashes of data and base, versions."""


@dataclass
class Checkpoint:
    """The state between two optimiser steps."""

    step: int
    """Steps done."""
    parameters: dict[str, Tensor]
    """Trained tensors by name."""
    optimiser: dict[str, Tensor]
    """`{optimiser}/{name}.exp_avg`, `.exp_avg_sq` and `.step` of each."""
    generators: dict[str, Tensor]
    """States of the random generators, by name and device."""
    positions: dict[str, int]
    """First place in each sampler's sequence that is not yet trained on."""
    history: list[dict[str, Any]]
    """Rows of the steps done."""
    callbacks: dict[str, Tensor]
    """The retain weight, sampling weights, and the best parameters so far under early stopping."""
    run: dict[str, Any]
    """The micro-batch, which too little memory lowers, and the patience used."""


def save_checkpoint(
    root: Path, identity: Identity, checkpoint: Checkpoint, *, keep: int = 2, best: int | None = None
) -> Path:
    """Write a checkpoint and remove all but the newest `keep` by step number.

    Args:
        root: checkpoint directory of the run.
        identity: what shapes the run.
        checkpoint: what to write.
        keep: how many to retain; the one just written is never removed.
        best: step of the best one so far, which is never removed either.

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
            "run": checkpoint.run,
            "files": {
                f"{name}.safetensors": sha256_file(partial / f"{name}.safetensors") for name in TENSOR_FILES
            },
        }
        write_json(partial / "state.json", state)
    for old in _complete(folder.parent)[:-keep]:
        if old != folder and old.name != f"step-{best or 0:08d}":
            shutil.rmtree(old)
    return folder


def newest_checkpoint(root: Path, identity: Identity) -> Checkpoint | None:
    """The checkpoint of the highest step that belongs to this run, or None.

    Raises:
        InputError: it lacks an item, a file changed since it was written, or it is of another run.
    """
    folders = _complete(_folder(root, identity))
    return read_checkpoint(folders[-1], identity) if folders else None


def read_checkpoint(folder: Path, identity: Identity) -> Checkpoint:
    """Read one checkpoint; errors as in `newest_checkpoint`."""
    state = read_json(folder / "state.json")
    expected = {"identity", "step", "positions", "history", "run", "files"}
    files = {f"{name}.safetensors" for name in TENSOR_FILES}
    if set(state) != expected or set(state["files"]) != files:
        raise InputError(f"{folder}/state.json: entries are missing or unknown. Delete the folder.")
    differing = differing_keys(state["identity"], identity)
    if differing:
        raise InputError(
            f"{folder}: written by a run with another configuration, data or code; "
            f"these differ: {', '.join(differing)}. Delete the folder, or restore them."
        )
    for name, digest in state["files"].items():
        if not (folder / name).exists() or sha256_file(folder / name) != digest:
            raise InputError(f"{folder}/{name}: missing or damaged. Delete the folder.")
    content: dict[str, Any] = {name: state[name] for name in ("step", "positions", "history", "run")}
    for name in TENSOR_FILES:
        content[name] = read_safetensors(folder / f"{name}.safetensors")
    return Checkpoint(**content)


def differing_keys(one: Identity, other: Identity) -> list[str]:
    """Dotted keys whose values differ between two identities, also where one lacks the key."""
    first, second = _flat(one), _flat(other)
    return sorted(
        key
        for key in {*first, *second}
        if key not in first or key not in second or stable_hash(first[key]) != stable_hash(second[key])
    )


def foreign_checkpoints(root: Path, identity: Identity) -> dict[str, list[str]]:
    """Folders of other runs in a checkpoint directory, each with the keys that differ from this one."""
    own = _folder(root, identity)
    newest = [_complete(folder)[-1:] for folder in sorted(root.glob("*")) if folder != own]
    return {
        str(folders[0].parent): differing_keys(read_json(folders[0] / "state.json")["identity"], identity)
        for folders in newest
        if folders
    }


def remove_checkpoints(root: str | Path) -> None:
    """Remove every checkpoint of an arm, also those of earlier configurations."""
    if Path(root).exists():
        shutil.rmtree(root)


def restore(checkpoint: Checkpoint, parameters: Mapping[str, nn.Parameter], updates: Updates) -> None:
    """Put parameters, optimiser state and generators back, in place.

    Raises:
        InputError: names or shapes are not exactly those of the live run.
    """
    _check(checkpoint.parameters, {name: value.shape for name, value in parameters.items()})
    _check(checkpoint.optimiser, updates.shapes(checkpoint.step))
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(checkpoint.parameters[name])
    updates.restore(checkpoint.optimiser)
    set_generator_states(checkpoint.generators)


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


def _folder(root: Path, identity: Identity) -> Path:
    return Path(root) / stable_hash(identity)[:16]


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _complete(folder: Path) -> list[Path]:
    """Checkpoints by rising step; half-written ones carry another name."""
    if not folder.exists():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"step-\d{8}", path.name))
