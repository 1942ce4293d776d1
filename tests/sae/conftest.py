"""An activation store for tests, written without a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mmie.activations.storage import ActivationStore, create_rows
from mmie.io import write_json, write_parquet, write_safetensors


@pytest.fixture
def write_store(tmp_path: Path) -> Callable[..., ActivationStore]:
    """Write rows [rows, width] by language, in items of equal length; returns the opened store."""
    return partial(_write, tmp_path)


def _write(
    root: Path, languages: dict[str, np.ndarray], tokens_per_item: int = 8, layer: int = 1
) -> ActivationStore:
    for language, rows in languages.items():
        directory = root / language
        directory.mkdir(parents=True, exist_ok=True)
        item = np.arange(len(rows)) // tokens_per_item
        stored = create_rows(directory / f"layer{layer}.safetensors", *rows.shape)
        stored[:] = rows
        stored.flush()
        write_safetensors(
            directory / "rows.safetensors",
            {
                "item": torch.from_numpy(item.astype(np.int32)),
                "keep": torch.ones(1, len(rows), dtype=torch.bool),
            },
        )
        count = int(item.max()) + 1
        write_parquet(
            directory / "items.parquet",
            pd.DataFrame({"example_id": [f"e{at}" for at in range(count)], "split": "fit"}),
        )
        report = {"layers": [layer], "identity": {}, "sink_factor": 10, "median_norm": {str(layer): 1}}
        write_json(directory / "extraction.json", report)
    return ActivationStore(root, layer, list(languages))
