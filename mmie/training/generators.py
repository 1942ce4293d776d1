"""The states of every random generator that a run may draw from, as tensors."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mmie.errors import InputError


def generator_states() -> dict[str, Tensor]:
    """States of torch's generators, numpy's global one and Python's."""
    _, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)
    version, words, next_gauss = random.getstate()
    states = {
        "cpu": torch.get_rng_state(),
        "numpy": torch.tensor([*map(int, keys), place, has_gauss], dtype=torch.int64),
        "numpy_gauss": torch.tensor([gauss], dtype=torch.float64),
        "python": torch.tensor([version, *words], dtype=torch.int64),
        # Empty: none is waiting. A number that stands for nothing could be taken for one.
        "python_gauss": torch.tensor([] if next_gauss is None else [next_gauss], dtype=torch.float64),
    }
    for device in range(torch.cuda.device_count()):
        states[f"cuda:{device}"] = torch.cuda.get_rng_state(device)
    return states


def set_generator_states(states: Mapping[str, Tensor]) -> None:
    """Inverse of `generator_states`; a device that the states lack is an InputError."""
    if set(states) != set(generator_states()):
        raise InputError("checkpoint: written on other devices. Delete the checkpoint folder.")
    torch.set_rng_state(states["cpu"])
    *keys, place, has_gauss = states["numpy"].tolist()
    np.random.set_state(
        ("MT19937", np.array(keys, dtype=np.uint32), place, has_gauss, states["numpy_gauss"].item())
    )
    version, *words = states["python"].tolist()
    waiting = states["python_gauss"].tolist()
    random.setstate((version, tuple(words), waiting[0] if waiting else None))
    for device in range(torch.cuda.device_count()):
        torch.cuda.set_rng_state(states[f"cuda:{device}"], device)
