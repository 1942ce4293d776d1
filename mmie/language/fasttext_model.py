"""Reading fastText models and asking them in batches, with either of the two Python bindings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmie.errors import InputError

_LABEL = "__label__"


def load_fasttext(path: Path, *, remedy: str) -> Any:
    """The model at `path`; InputError if it is missing, broken, or fastText is not installed."""
    if not path.is_file():
        raise InputError(f"{path}: no fastText model here. {remedy}")
    try:
        import fasttext
    except ImportError as error:
        raise InputError(
            f"language identification: fasttext is not installed ({error}). pip install fasttext-predict."
        ) from error
    try:
        return fasttext.load_model(str(path))
    except ValueError as error:
        raise InputError(f"{path}: not a fastText model ({error}). {remedy}") from error


def predict(model: Any, lines: Iterable[str]) -> Iterator[tuple[str, float]]:
    """The best label and its probability for each line; ("", 0.0) where nothing can be said.

    A line holds no line break. The probability can pass 1 by rounding and is cut there.
    """
    # The binding below the Python wrapper: the wrapper of fasttext 0.9.3 fails under NumPy 2, and the
    # one of fasttext-predict returns another shape for lists.
    ask = model.f.predict
    for line in lines:
        answer = ask(line + "\n", 1, 0.0, "replace") if line else None
        if answer:
            confidence, label = answer[0]
            yield label[len(_LABEL) :], min(confidence, 1.0)
        else:
            yield "", 0.0
