"""Files of either side in the hands of the other; all of it runs where SAELens is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from mmie.activations.extract import extract_language
from mmie.activations.storage import open_rows
from mmie.io import read_safetensors, write_json
from mmie.models.loading import save_model
from mmie.models.prompts import encode_all
from mmie.sae.architectures import ARCHITECTURES
from mmie.sae.formats import load_sae, save_sae
from mmie.sae.origin import origin_of
from mmie.sae.topk import TopKSAE

from .test_formats import random_sae
from .test_origin import gpt2

saelens = pytest.importorskip(
    "sae_lens", reason="SAELens is not installed here; bench/sae/requirements-saelens.txt has it"
)
X = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saelens_gives_the_same_reconstructions_both_ways(tmp_path: Path, architecture: str) -> None:
    sae = random_sae(architecture)
    save_sae(sae, tmp_path / "ours", layer=1, hook_name="model.layers.1", context_size=7, prepend_bos=False)
    theirs = saelens.SAE.load_from_disk(tmp_path / "ours")
    assert torch.allclose(theirs(X), sae(X), atol=1e-5)
    metadata = theirs.cfg.metadata
    assert (metadata.hook_name, metadata.context_size, metadata.prepend_bos) == ("model.layers.1", 7, False)
    theirs.save_model(tmp_path / "theirs")
    assert torch.allclose(load_sae(tmp_path / "theirs", layer=1)(X), sae(X), atol=1e-5)


def filled(sae: Any) -> Any:
    """Every parameter random, decoder rows of different lengths, some latents silent."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(values.abs() if name == "threshold" else values)
    return sae


@pytest.mark.parametrize("subtracts", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["topk", "topk by norms", "jumprelu", "gated", "standard"])
def test_what_saelens_makes_is_read_as_it_was_meant(
    tmp_path: Path, kind: str, dtype: str, subtracts: bool
) -> None:
    config = {
        "architecture": kind.split()[0],
        "d_in": 6,
        "d_sae": 16,
        "dtype": dtype,
        "apply_b_dec_to_input": subtracts,
        "metadata": {"hook_name": "blocks.2.hook_resid_pre", "model_name": "gpt2"},
    }
    if config["architecture"] == "topk":
        config |= {"k": 3, "rescale_acts_by_decoder_norm": "norms" in kind}
    filled(saelens.SAE.from_dict(config)).save_model(tmp_path)
    theirs = saelens.SAE.load_from_disk(tmp_path, dtype="float32")
    ours = load_sae(tmp_path, layer=1)
    assert 0 < (theirs.encode(X) > 0).sum() < 50 * 16
    assert torch.equal(ours.codes(X) > 0, theirs.encode(X) > 0)
    assert torch.allclose(ours(X), theirs(X), atol=1e-4)


@pytest.mark.parametrize(
    "kind", ["topk", "batchtopk", "matryoshka_batchtopk", "jumprelu", "gated", "standard"]
)
def test_what_saelens_trained_is_read(tmp_path: Path, kind: str) -> None:
    more = {"matryoshka_batchtopk": {"matryoshka_widths": [4, 16]}}.get(kind, {})
    if "topk" in kind:
        more |= {"k": 3}
    made, settings = saelens.registry.get_sae_training_class(kind)
    trained = filled(made(settings(d_in=6, d_sae=16, **more)))
    if "batchtopk" in kind:
        trained.topk_threshold.fill_(0.7)
    trained.save_inference_model(tmp_path)
    theirs = saelens.SAE.load_from_disk(tmp_path)
    assert torch.allclose(load_sae(tmp_path)(X), theirs(X), atol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_saelens_evaluates_at_the_place_of_training(
    tmp_path: Path, tiny_model: tuple[Any, Any, pd.DataFrame], architecture: str
) -> None:
    from datasets import Dataset
    from sae_lens.load_model import load_model

    llama, tokenizer, table = tiny_model
    model = llama if architecture == "llama" else gpt2()
    base, activations = tmp_path / "base", tmp_path / "activations"
    base.mkdir()
    save_model(model, tokenizer, base)
    write_json(base / "manifest.json", {"config": {"base": str(base)}})
    extract_language(model, tokenizer, table.assign(example_id=list("abc"), split="fit"), activations / "xx")
    origin = origin_of(model, tokenizer, base, activations, ["xx"], 1)
    save_sae(TopKSAE(16, 32, 2), tmp_path / "sae", **origin)

    theirs = saelens.SAE.load_from_disk(tmp_path / "sae")
    metadata = theirs.cfg.metadata
    loaded = load_model(metadata.model_class_name, metadata.model_name, device="cpu")
    store = saelens.ActivationsStore.from_sae(
        loaded, theirs, dataset=Dataset.from_dict({"text": ["w1 w2"]}), streaming=False
    )
    item = encode_all(tokenizer, table["prompt"].tolist(), table["answer"].tolist())[1].ids
    assert metadata.context_size == len(item) and store.prepend_bos
    seen = store.get_activations(torch.tensor([item])).reshape(len(item), 16)
    rows = read_safetensors(activations / "xx/rows.safetensors")
    mine = rows["item"].numpy() == 1
    ours = torch.from_numpy(open_rows(activations / "xx/layer1.safetensors")[mine])
    assert torch.allclose(seen[rows["position"][mine].long()], ours, atol=1e-5)
