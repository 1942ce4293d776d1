"""A toy world of two languages: a random two-layer Llama, a word tokenizer, rows of both languages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest


def pytest_collection_finish(session: pytest.Session) -> None:
    """Register the pretended device before any test: autograd counts devices at its first backward pass."""
    if any("elsewhere" in getattr(item, "fixturenames", ()) for item in session.items):
        from elsewhere import register

        register()


@pytest.fixture
def toy_model() -> Any:
    """Width 16, 2 blocks, 64 words, float32, eval mode, the same weights every time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


@pytest.fixture
def toy_tokenizer() -> Any:
    """One token a word: <pad>, <s>, </s>, <unk>, w4 ... w63."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{number}" for number in range(4, 64))]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )


@pytest.fixture
def toy_rows() -> Callable[..., pd.DataFrame]:
    """Rows of a toy language: prompts of 2 to 4 words, answers of 1 to 3."""

    def make(language: str, count: int = 12, first_word: int = 4) -> pd.DataFrame:
        rows = []
        for number in range(count):
            words = [f"w{(first_word + number * 5 + place) % 60 + 4}" for place in range(7)]
            cut = 2 + number % 3
            rows.append(
                {
                    "example_id": f"fact{number}/q1",
                    "fact_id": f"fact{number}",
                    "group": f"fact{number}",
                    "language": language,
                    "split": "fit",
                    "prompt": " ".join(words[:cut]),
                    "answer": " ".join(words[cut : cut + 1 + number % 3]),
                }
            )
        return pd.DataFrame(rows)

    return make


@pytest.fixture
def elsewhere() -> Iterator[Any]:
    """A device that this machine pretends to have; what is not moved there fails as with a GPU."""
    from elsewhere import pretended_device

    with pretended_device() as device:
        yield device
