"""Other weights for the length of an attack: copies, and adapters merged into them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch import nn


@contextmanager
def on_copies(parameters: dict[str, nn.Parameter]) -> Iterator[None]:
    """Let parameters be trained on copies of their storage; the originals come back untouched."""
    originals = {name: value.data for name, value in parameters.items()}
    try:
        for name, value in parameters.items():
            value.data = originals[name].clone()
        yield
    finally:
        for name, value in parameters.items():
            value.data = originals[name]


@contextmanager
def merged(model: nn.Module) -> Iterator[nn.Module]:
    """Let the adapters of a peft model be part of its weights; a model without adapters is left alone.

    The weights must be copies (`on_copies`): subtracting an adapter again is not exact in floats, so
    the marks of peft are taken back here and the weights by the caller.
    """
    adapted = hasattr(model, "merge_adapter") and hasattr(model, "peft_config")
    if not adapted:
        yield model
        return
    wrapped = cast(Any, model)
    wrapped.merge_adapter()
    try:
        yield model
    finally:
        wrapped.unmerge_adapter()
