"""Which blocks an arm acts on: the selected ones, or a control that tells whether selection mattered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmie.activations.placement import Placement, placement
from mmie.errors import InputError

if TYPE_CHECKING:
    from mmie.interventions.interface import FitData

CHOICES = ("all", "selected", "random", "worst", "middle")


def resolve_layers(chosen: str | list[int], data: FitData, count: int, kind: str, seed: int) -> list[int]:
    """Turn the option `layers` into block numbers.

    Args:
        chosen: a list of blocks; `all`; `selected` by the layer stage; or a control that selection could
            have taken, of as many blocks at the same distance and without the excluded first and last ones:
            `random` (by seed, others than the selected ones and of the same depth where there are enough),
            `worst` (lowest scores of the layer stage), `middle`.
        data: the selection and the scores of the layer stage.
        count: blocks of the model.
        kind: of the arm, for messages.
        seed: of the random draw.

    Raises:
        InputError: nothing was selected, a number is no block of the model, or `random` where nothing else
            could have been selected.
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


def controls(data: FitData, count: int) -> list[str]:
    """Names of the controls that there are beside a selection from `count` blocks."""
    place = _placement(data, count)
    found = ["middle"]
    if place.random(0, avoid=data.layers) is not None:
        found.append("random")
    # Methods that look at no score rank no layer last.
    if data.layer_scores:
        found.append("worst")
    return found


def _control(chosen: str, data: FitData, count: int, kind: str, seed: int) -> list[int]:
    if not data.layers:
        return []
    place = _placement(data, count)
    if chosen == "middle":
        return place.middle()
    if chosen == "worst":
        scores = data.layer_scores or {}
        if not scores:
            raise InputError(
                f"arm of kind {kind!r}: layers 'worst' needs scores, which layers.method did not give. "
                "Use `specific` or `shared`."
            )
        return place.first(sorted(place.candidates, key=lambda layer: (scores[layer], layer)))
    drawn = place.random(seed, avoid=data.layers)
    if drawn is None:
        raise InputError(
            f"arm of kind {kind!r}: layers 'random': of blocks {list(place.candidates)} nothing but "
            f"{list(data.layers)} could have been selected. Lower layers.top, read more blocks "
            "(activations.layers), or leave this control out."
        )
    return drawn


def _placement(data: FitData, count: int) -> Placement:
    """What the layer stage could have selected; its default rules where it did not say."""
    if data.layer_gap is None:
        return placement(range(count), len(data.layers))[0]
    return Placement(tuple(data.layer_candidates), data.layer_gap, len(data.layers), count)
