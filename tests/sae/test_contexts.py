from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from mmie.activations.extract import ExtractionOptions, extract_language
from mmie.activations.storage import ActivationStore, load_rows
from mmie.models.hooks import capture
from mmie.sae import contexts
from mmie.sae.contexts import _parts, _strongest, strongest_contexts
from mmie.sae.topk import TopKSAE

Parts = tuple[LlamaForCausalLM, PreTrainedTokenizerFast, pd.DataFrame]


@pytest.fixture
def stored(tmp_path: Path, tiny_model: Parts) -> Path:
    model, tokenizer, table = tiny_model
    rows = table.assign(example_id=["a", "b", "c"], language="hi", split=["fit", "fit", "dev"])
    extract_language(model, tokenizer, rows, tmp_path / "hi", ExtractionOptions(layers=(1,)))
    return tmp_path


def test_the_strongest_token_is_shown_in_its_text(stored: Path, tiny_model: Parts) -> None:
    model, tokenizer, _ = tiny_model
    sae = TopKSAE(16, 24, 4)
    sae.initialise(torch.zeros(16), torch.Generator().manual_seed(0))
    sae.requires_grad_(False)
    store = load_rows(stored, 1, ["hi"], "fit")
    latents = list(range(24))
    found = strongest_contexts(sae, store, stored, tokenizer, latents, count=1)
    words = {"a": ["w1", "w2", "w8"], "b": ["w3", "w4", "w5", "w6", "w9"]}
    best: dict[int, tuple[float, str, str]] = {}
    for example, tokens in words.items():
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer.convert_tokens_to_ids(tokens)]])
        with capture(model, [1]) as seen, torch.no_grad():
            model(input_ids=ids)
        codes = sae.codes(seen.hidden[1][0])
        for at, token in enumerate(tokens, start=1):
            for latent in latents:
                code = float(codes[at, latent])
                if code > best.get(latent, (0.0, "", ""))[0]:
                    best[latent] = (code, example, token)
    shown = {
        row.latent: (pytest.approx(row.code, rel=1e-4), row.example_id, row.token.strip())
        for row in found.itertuples()
    }
    assert len(shown) > 3
    assert {latent: best[latent] for latent in shown} == shown
    assert set(shown) == set(best)
    assert "c" not in set(found["example_id"])
    for whole in found.itertuples():
        # Put together again, the parts are the text, its spaces included.
        text = f"{whole.before}{whole.token}{whole.after}"
        assert text.split()[-len(words[whole.example_id]) :] == words[whole.example_id]


def test_contexts_are_ranked_and_one_an_item(stored: Path, tiny_model: Parts) -> None:
    _, tokenizer, _ = tiny_model
    sae = TopKSAE(16, 24, 8)
    sae.initialise(torch.zeros(16), torch.Generator().manual_seed(0))
    sae.requires_grad_(False)
    store = load_rows(stored, 1, ["hi"], "fit")
    found = strongest_contexts(sae, store, stored, tokenizer, list(range(24)), count=5)
    for _, table in found.groupby("latent"):
        assert table["code"].is_monotonic_decreasing and (table["code"] > 0).all()
        assert table["rank"].tolist() == list(range(len(table)))
        assert table["example_id"].is_unique


@pytest.mark.parametrize("batch", [3, 7, 4096])
def test_the_best_so_far_are_the_best_of_all(
    write_store: Callable[..., ActivationStore], monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(contexts, "BATCH", batch)
    # Latent j is dimension j; whole numbers give ties, within items and between them.
    sae = TopKSAE(6, 6, 6)
    with torch.no_grad():
        sae.w_enc.copy_(torch.eye(6))
    x = np.random.default_rng(0).integers(-3, 5, size=(95, 6)).astype(np.float32)
    found = _strongest(sae.requires_grad_(False), write_store({"hi": x}, 5), "hi", [4, 1], 4)
    for latent, best in zip([4, 1], found, strict=True):
        first = {item: 5 * item + int(x[5 * item : 5 * item + 5, latent].argmax()) for item in range(19)}
        order = sorted(first.values(), key=lambda row: (-x[row, latent], row))[:4]
        assert best.row.tolist() == order
        assert best.item.tolist() == [row // 5 for row in order]
        assert best.code.tolist() == x[order, latent].tolist()


def test_no_latents_have_no_contexts(stored: Path, tiny_model: Parts) -> None:
    _, tokenizer, _ = tiny_model
    store = load_rows(stored, 1, ["hi"], "fit")
    found = strongest_contexts(TopKSAE(16, 24, 8), store, stored, tokenizer, [])
    assert found.empty and {"latent", "token"} <= set(found.columns)


PEAK = """
import sys
from pathlib import Path
import torch
from mmie.activations.storage import load_rows
from mmie.sae import contexts
from mmie.sae.topk import TopKSAE

# Small batches, or what the encoder needs for one hides the rest.
contexts.BATCH = 512
sae = TopKSAE(4, 512, 4)
sae.initialise(torch.zeros(4), torch.Generator().manual_seed(0))
sae.requires_grad_(False)
for root in sys.argv[1:]:
    store = load_rows(root, 1, ["hi"], "fit")
    contexts.strongest_contexts(sae, store, root, None, range(512), count=0)
    # getrusage would count the process that started this one.
    status = Path("/proc/self/status").read_text().splitlines()
    print(next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM")))
"""


def test_memory_does_not_grow_with_the_rows(store_at: Callable[..., ActivationStore], tmp_path: Path) -> None:
    rows = 8192
    for times in (1, 8):
        x = np.random.default_rng(0).normal(size=(times * rows, 4)).astype(np.float32)
        store_at(tmp_path / f"{times}", {"hi": x})
    command = [sys.executable, "-c", PEAK, str(tmp_path / "1"), str(tmp_path / "8")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    small, large = map(int, done.stdout.split())
    # Half of the codes of the rows that are more, which the old way held twice.
    assert large - small < 7 * rows * 512 * 4 / 2


def test_parts_of_characters_stay_visible() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_alone = Tokenizer(models.BPE({letter: at for at, letter in enumerate(letters)}, []))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_alone.decoder = decoders.ByteLevel()
    ids = bytes_alone.encode("a क ख").ids
    parts = [_parts(ids, at, PreTrainedTokenizerFast(tokenizer_object=bytes_alone)) for at in range(len(ids))]
    assert parts[0] == ("", "a", " क ख")
    assert all(token for _, token, _ in parts)
    assert parts[1] == ("a", " ", "क ख")
