"""What stored activations depend on, as one hash: the same key, the same activations."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mmie.errors import InputError
from mmie.io import read_json, sha256_file, stable_hash
from mmie.provenance import ROOT, code_files
from mmie.training.fingerprint import weights_hash

if TYPE_CHECKING:
    import pandas as pd

    from mmie.activations.items import TokenItems

HOOK_POINT = "output of the block"
MODULE = "mmie/activations/extract.py"


def extraction_key(
    model: nn.Module,
    *,
    tokens: TokenItems,
    items: pd.DataFrame,
    layers: Sequence[int],
    settings: Mapping[str, Any],
    identity: Mapping[str, str],
) -> dict[str, str]:
    """Hashes of everything that decides stored activations, by what they stand for.

    Args:
        model: the base model; its weights are hashed where the caller does not say what they are.
        tokens: token ids of the items, which stand for texts and tokenizer, and which of them are stored.
        items: what is kept of the items beside their activations.
        layers: blocks that are read.
        settings: everything else that shapes the numbers.
        identity: hashes of the weight files, from the manifest of the base model.

    Returns:
        `model`, `data`, `layers`, `hook_point`, `settings` and `code`.

    Raises:
        InputError: no `identity`, and weights that are nowhere to be hashed.
    """
    config: Any = model.config
    weights: Any = dict(identity)
    if not weights:
        if any(value.device.type == "meta" for value in model.parameters()):
            raise InputError("activations: the weights are offloaded. Give their hashes as `identity`.")
        weights = weights_hash(model.state_dict())
    parts = {
        "model": [
            weights,
            str(getattr(model, "dtype", "")),
            str(getattr(config, "_attn_implementation", "")),
        ],
        "data": [
            {str(name): _column_hash(column) for name, column in items.items()},
            [_array_hash(part) for part in (tokens.ids, tokens.kept, tokens.starts)],
        ],
        "layers": list(layers),
        "hook_point": HOOK_POINT,
        "settings": dict(settings),
        "code": source_hash([MODULE, *code_files(MODULE)]),
    }
    return {name: stable_hash(content) for name, content in parts.items()}


def _column_hash(column: pd.Series) -> str:
    """Hash of a column, some thousand values at a time: as JSON a corpus takes many times its size."""
    digest = hashlib.sha256()
    for start in range(0, len(column), 4096):
        digest.update(stable_hash(column.iloc[start : start + 4096].tolist()).encode())
    return digest.hexdigest()


def _array_hash(values: NDArray[Any]) -> str:
    """Hash of an array's bytes, which are not copied."""
    return hashlib.sha256(np.ascontiguousarray(values).data.cast("B")).hexdigest()


def source_hash(files: Iterable[str]) -> str:
    """Hash of the contents of source files, by their paths relative to the project."""
    return stable_hash({file: sha256_file(ROOT / file) for file in files})


def stored_report(directory: str | Path, key: Mapping[str, str]) -> dict[str, Any] | None:
    """The report of activations that are there already and were made of the same things; else None.

    A directory appears whole or not at all, so a report that is there stands for files that are.
    """
    file = Path(directory) / "extraction.json"
    if not file.is_file():
        return None
    report: dict[str, Any] = read_json(file)
    return report if report.get("key") == dict(key) else None
