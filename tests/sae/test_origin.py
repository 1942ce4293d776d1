from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from mmie.activations.extract import extract_language
from mmie.errors import InputError
from mmie.io import read_json, write_json
from mmie.sae.formats import CONFIG, load_sae, save_sae
from mmie.sae.origin import block_read, origin_of
from mmie.sae.topk import TopKSAE


def saved(directory: Path, **metadata: Any) -> None:
    """An autoencoder by MMIE; metadata of None are removed."""
    save_sae(TopKSAE(6, 12, 3), directory, layer=2, hook_name="model.layers.2", model_hash="abc")
    config = read_json(directory / CONFIG)
    metadata = {**config["metadata"], **metadata}
    config["metadata"] = {name: value for name, value in metadata.items() if value is not None}
    write_json(directory / CONFIG, config)


def foreign(directory: Path, **metadata: Any) -> None:
    """An autoencoder with such metadata as SAELens writes."""
    own = dict.fromkeys(("hook_point", "hook_layer", "model_hash", "k", "trained_as"))
    saved(directory, **own, **metadata)


@pytest.mark.parametrize(
    "hook_name",
    [
        "model.layers.2",
        "transformer.h.2",
        "layers.2",
        "blocks.2.hook_resid_post",
        "blocks.3.hook_resid_pre",
        "blocks.2.hook_out",
        "blocks.3.hook_in",
    ],
)
def test_every_spelling_of_the_output_of_a_block_is_known(tmp_path: Path, hook_name: str) -> None:
    foreign(tmp_path, hook_name=hook_name)
    assert load_sae(tmp_path, layer=2).width == 6
    for other in (1, 3):
        with pytest.raises(InputError, match=rf"hook_name is '{hook_name}'.*block 2, .*block {other}\."):
            load_sae(tmp_path, layer=other)


@pytest.mark.regression("SAE-20")
@pytest.mark.parametrize(
    "hook_name",
    [
        "blocks.2.hook_mlp_out",
        "blocks.2.hook_resid_mid",
        "blocks.2.hook_attn_out",
        "blocks.2.attn.hook_z",
        "blocks.2.mlp.hook_out",
        "model.layers.2.mlp",
        "model.layers.0.mlp.experts.2",
        "hook_embed",
        "2",
    ],
)
def test_another_hook_is_refused_by_name(tmp_path: Path, hook_name: str) -> None:
    for write in (saved, foreign):
        write(tmp_path, hook_name=hook_name)
        with pytest.raises(InputError, match=rf"cfg\.json: metadata\.hook_name is '{hook_name}'.*Use an"):
            load_sae(tmp_path, layer=2)


@pytest.mark.regression("SAE-20")
def test_another_hook_point_or_layer_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, hook_point="input of the block")
    with pytest.raises(InputError, match="hook_point is 'input of the block'"):
        load_sae(tmp_path, layer=2)
    saved(tmp_path, hook_layer=1)
    with pytest.raises(InputError, match="hook_layer is 1, expected 2"):
        load_sae(tmp_path, layer=2)
    foreign(tmp_path, hook_name=None)
    with pytest.raises(InputError, match=r"hook_name is missing.*Add the one"):
        load_sae(tmp_path, layer=2)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"hook_head_index": 3}, "hook_head_index is 3.*residual stream"),
        ({"hook_name_out": "blocks.2.hook_mlp_out"}, "hook_name_out.*not a transcoder"),
        (
            {"model_from_pretrained_kwargs": {"center_writing_weights": True}},
            "center_writing_weights is True",
        ),
    ],
)
def test_other_streams_at_the_right_hook_are_refused(
    tmp_path: Path, metadata: dict[str, Any], message: str
) -> None:
    foreign(tmp_path, hook_name="blocks.2.hook_resid_post", **metadata)
    with pytest.raises(InputError, match=message):
        load_sae(tmp_path, layer=2)


def test_the_path_of_a_module_must_name_the_blocks_of_the_model() -> None:
    assert block_read("model.layers.2", "model.layers") == 2
    assert block_read("layers.2", "model.layers") == 2
    assert block_read("model.layers.2", "base_model.model.model.layers") == 2
    assert block_read("vision_tower.layers.2", "model.layers") is None
    assert block_read("sublayers.2", "layers") is None
    assert block_read("blocks.0.hook_resid_pre", "model.layers") == -1


def test_a_file_without_hash_of_the_model_needs_consent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign(tmp_path, model_name="gpt2")
    with pytest.raises(InputError, match=r"model_hash is missing.*Name it in sae\.load"):
        load_sae(tmp_path, layer=2, model_hash="abc")
    with caplog.at_level(logging.WARNING):
        load_sae(tmp_path, layer=2, model_hash="abc", unverified=True)
    assert "'gpt2') cannot be verified" in caplog.text
    saved(tmp_path)
    caplog.clear()
    load_sae(tmp_path, layer=2, model_hash="abc", unverified=True)
    assert not caplog.text
    with pytest.raises(InputError, match=r"expected 'other'\. It was trained on other weights"):
        load_sae(tmp_path, layer=2, model_hash="other", unverified=True)


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    shape = GPT2Config(
        vocab_size=24, n_embd=16, n_layer=3, n_head=2, n_positions=32, bos_token_id=1, eos_token_id=2
    )
    return GPT2LMHeadModel(shape).eval()


def test_an_autoencoder_says_where_and_on_what_it_was_trained(
    tmp_path: Path, tiny_model: tuple[Any, Any, pd.DataFrame]
) -> None:
    llama, tokenizer, table = tiny_model
    table = table.assign(example_id=["a", "b", "c"], split=["fit", "dev", "fit"])
    write_json(tmp_path / "base/manifest.json", {"config": {"base": "org/name"}})
    for model, path in ((llama, "model.layers.1"), (gpt2(), "transformer.h.1")):
        extract_language(model, tokenizer, table, tmp_path / "activations/xx")
        extract_language(model, tokenizer, table[:1], tmp_path / "activations/yy")
        made = (model, tokenizer, tmp_path / "base", tmp_path / "activations", ["xx", "yy"], 1)
        origin = origin_of(*made)
        assert (origin["hook_name"], origin["model_name"], origin["layer"]) == (path, "org/name", 1)
        # <s> w7 w2 w3 </s> is the longest FIT item; the longest of all is DEV.
        assert (origin["context_size"], origin["prepend_bos"]) == (5, True)
        save_sae(TopKSAE(16, 32, 2), tmp_path / "sae", **origin)
        load_sae(tmp_path / "sae", layer=1, width=16, model_hash=origin["model_hash"])
        metadata = read_json(tmp_path / "sae" / CONFIG)["metadata"]
        assert metadata.items() >= {name: origin[name] for name in origin if name != "layer"}.items()
    tokenizer.bos_token = None
    assert origin_of(*made)["prepend_bos"] is False
