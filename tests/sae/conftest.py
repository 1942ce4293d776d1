"""An activation store for tests, written without a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mmie.activations.storage import ActivationStore
from mmie.io import write_json, write_parquet, write_safetensors


@pytest.fixture
def write_store(tmp_path: Path) -> Callable[..., ActivationStore]:
    """Write rows [rows, width] by language, in items of equal length; returns the opened store."""
    return partial(_write, tmp_path)


@pytest.fixture
def store_at() -> Callable[..., ActivationStore]:
    """As `write_store`, in a directory of choice."""
    return lambda root, *given, **more: _write(Path(root), *given, **more)


def _write(
    root: Path, languages: dict[str, np.ndarray], tokens_per_item: int = 8, layer: int = 1
) -> ActivationStore:
    for language, rows in languages.items():
        directory = root / language
        directory.mkdir(parents=True, exist_ok=True)
        item = np.arange(len(rows)) // tokens_per_item
        stored = {"h": torch.from_numpy(rows.astype(np.float32))}
        write_safetensors(directory / f"layer{layer}.safetensors", stored)
        write_safetensors(
            directory / "rows.safetensors",
            {
                "item": torch.from_numpy(item.astype(np.int32)),
                "token": torch.zeros(len(rows), dtype=torch.int32),
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


@pytest.fixture
def tiny_model() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, pd.DataFrame]:
    """A random model of two blocks, its tokenizer of 20 words, and three items."""
    words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{at}" for at in range(20))]
    raw = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=24,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=32,
            initializer_range=0.5,
        )
    ).eval()
    table = pd.DataFrame({"prompt": ["w1 w2", "w3 w4 w5 w6", "w7"], "answer": ["w8", "w9", "w2 w3"]})
    return model, tokenizer, table
