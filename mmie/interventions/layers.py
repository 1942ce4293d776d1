"""Which blocks an arm acts on: the selected ones, or a control that tells whether selection mattered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmie.errors import InputError
from mmie.io import seed_from

if TYPE_CHECKING:
    from mmie.interventions.interface import FitData

CHOICES = ("all", "selected", "random", "worst", "middle")


def resolve_layers(chosen: str | list[int], data: FitData, count: int, kind: str, seed: int) -> list[int]:
    """Turn the option `layers` into block numbers.

    Args:
        chosen: a list of blocks; `all`; `selected` by the layer stage; or a control of as many blocks as
            were selected: `random` (by seed, others than the selected ones and of the same depth where
            there are enough), `worst` (lowest scores of the layer stage), `middle`.
        data: the selection and the scores of the layer stage.
        count: blocks of the model.
        kind: of the arm, for messages.
        seed: of the random draw.

    Raises:
        InputError: nothing was selected, or a number is no block of the model.
    """
    if isinstance(chosen, str) and chosen not in CHOICES:
        raise InputError(
            f"arm of kind {kind!r}: layers {chosen!r}. Use one of {', '.join(CHOICES)}, or numbers."
        )
    if not isinstance(chosen, str):
        wanted = [int(layer) for layer in chosen]
    elif chosen == "all":
        wanted = list(range(count))
    elif chosen == "selected":
        wanted = list(data.layers)
    else:
        wanted = _control(chosen, data, count, kind, seed)
    layers = sorted(wanted)
    if not layers or len(set(layers)) != len(layers) or any(not 0 <= layer < count for layer in layers):
        raise InputError(
            f"arm of kind {kind!r}: layers {chosen!r} gives {layers} for a model of {count} blocks. "
            "Give numbers of blocks, each once, or run the layer stage."
        )
    return layers


def _control(chosen: str, data: FitData, count: int, kind: str, seed: int) -> list[int]:
    number = len(data.layers)
    if chosen == "middle":
        return sorted(range(count), key=lambda layer: (abs(layer - count // 2), layer))[:number]
    if chosen == "worst":
        scores = data.layer_scores or {}
        if not scores:
            raise InputError(
                f"arm of kind {kind!r}: layers 'worst' needs scores, which layers.method did not give. "
                "Use `specific` or `shared`."
            )
        return sorted(scores, key=lambda layer: (scores[layer], layer))[:number]
    return _random(data.layers, count, seed)


def _random(selected: tuple[int, ...], count: int, seed: int) -> list[int]:
    """As many blocks as selected: from the same thirds of the depth, then from the rest."""
    order = np.random.default_rng(seed_from("random layers", seed)).permutation(count).tolist()
    free = [layer for layer in order if layer not in selected]
    thirds = {3 * layer // count for layer in selected}
    alike = [layer for layer in free if 3 * layer // count in thirds]
    # Too few blocks of that depth would make every draw the same one.
    pool = alike if len(alike) > len(selected) else free if len(free) >= len(selected) else order
    return sorted(pool[: len(selected)])
