"""Which settings a sweep tries: a declared grid, or a random part of it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmie.errors import InputError
from mmie.io import seed_from, stable_hash


@dataclass(frozen=True)
class Trial:
    """One configuration of an arm.

    Attributes:
        name: hash of the changes, the same whatever else the grid holds.
        number: its place in the full grid; ties are settled by it.
        changes: value of every swept key, by dotted name.
        options: the arm's whole config block with the changes in it.
    """

    name: str
    number: int
    changes: dict[str, Any]
    options: dict[str, Any]


def trials(
    arm: str,
    options: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    *,
    draws: int | None = None,
    seed: int = 0,
) -> list[Trial]:
    """Every configuration of the grid, or `draws` of them without replacement.

    Args:
        arm: name of the arm, for errors.
        options: its config block.
        grid: values of each key of the block; `training.learning_rate` reaches into a section.
        draws: random search: how many to try; None for all.
        seed: of the drawing.

    Returns:
        Trials by number. The order of keys in the grid does not matter.

    Raises:
        InputError: a key that the block does not have, an empty or repeated list of values, or more draws
            than there are configurations.
    """
    for key, values in grid.items():
        if not values or len({repr(value) for value in values}) < len(values):
            raise InputError(
                f"sweep.arms.{arm}.grid.{key}: {list(values)} must hold different values. Mend it."
            )
    keys = sorted(grid)
    combinations = list(itertools.product(*(grid[key] for key in keys)))
    numbers: Sequence[int] = range(len(combinations))
    if draws is not None:
        if draws > len(combinations):
            raise InputError(
                f"sweep.arms.{arm}.draws: {draws}, but the grid has {len(combinations)}. Draw fewer, or null."
            )
        generator = np.random.default_rng(seed_from("sweep", arm, seed))
        chosen = generator.choice(len(combinations), size=draws, replace=False)
        numbers = sorted(int(number) for number in chosen)
    return [
        Trial(stable_hash(changes)[:8], number, changes, changed(arm, options, changes))
        for number in numbers
        for changes in [dict(zip(keys, combinations[number], strict=True))]
    ]


def changed(arm: str, options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A config block with other values; the block itself stays as it is.

    Raises:
        InputError: a key that the block does not have, or one that names a whole section.
    """
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in options.items()}
    for name, value in changes.items():
        section: Any = result
        *path, key = name.split(".")
        for part in path:
            section = section.get(part) if isinstance(section, dict) else None
        if not isinstance(section, dict) or key not in section:
            known = sorted(set(options) - {"kind"})
            raise InputError(
                f"sweep.arms.{arm}.grid: {name!r} is no option of the arm. It has {', '.join(known)}."
            )
        if isinstance(section[key], dict):
            raise InputError(f"sweep.arms.{arm}.grid: {name!r} is a section. Name the option in it.")
        section[key] = value
    return result
