"""The unit of every edit of the stream: n_l, the median norm of a layer's stored rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmie.errors import InputError
from mmie.io import read_json


def residual_norms(root: str | Path, languages: Sequence[str]) -> dict[int, float]:
    """n_l of every extracted layer: mean over languages of the median norm of its rows.

    Edits count in the norm of what must stay, so `languages` are the retain languages.

    Args:
        root: directory of the activation stage, with one folder a language.
        languages: over which the medians are averaged.

    Raises:
        InputError: no language, or languages that differ in their layers.
    """
    if not languages:
        raise InputError("n_l, the unit of edits, needs a retain language. Name one in `retain`.")
    norms = [read_json(Path(root) / language / "extraction.json")["median_norm"] for language in languages]
    if len({tuple(norm) for norm in norms}) > 1:
        raise InputError(f"{root}: languages differ in their layers. Extract them again.")
    return {int(layer): sum(float(norm[layer]) for norm in norms) / len(norms) for layer in norms[0]}


def sink_factor(root: str | Path, languages: Sequence[str]) -> float:
    """Norms above this many n_l are sinks, which no autoencoder saw and no edit touches.

    Raises:
        InputError: languages that were extracted with different factors.
    """
    factors = {read_json(Path(root) / code / "extraction.json")["sink_factor"] for code in languages}
    if len(factors) != 1:
        raise InputError(f"{root}: languages differ in activations.sink_factor. Extract them again.")
    return float(factors.pop())
