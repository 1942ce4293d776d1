from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmie.activations.storage import ActivationStore
from mmie.errors import InputError
from mmie.io import read_json, sha256_file, write_json
from mmie.sae.existing import check_existing, existing_sae
from mmie.sae.formats import CONFIG, WEIGHTS, load_sae, save_sae
from mmie.sae.options import SaeOptions

from .test_formats import random_sae

ORIGIN = {
    "layer": 1,
    "hook_name": "transformer.h.1",
    "model_name": "org/name",
    "model_hash": "abc",
    "context_size": 5,
    "prepend_bos": True,
}


@pytest.fixture
def store(write_store: Callable[..., ActivationStore]) -> ActivationStore:
    return write_store({"hi": np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)})


def foreign(directory: Path, **metadata: Any) -> None:
    """Random weights with such metadata as SAELens writes."""
    save_sae(random_sae("jumprelu"), directory, layer=1)
    config = read_json(directory / CONFIG)
    version = {"sae_lens_version": "6.54.12"}
    write_json(directory / CONFIG, {**config, "metadata": {**version, **metadata}})


def test_a_foreign_autoencoder_takes_the_place_of_a_trained_one(
    tmp_path: Path, store: ActivationStore, caplog: pytest.LogCaptureFixture
) -> None:
    foreign(tmp_path / "l1", hook_name="blocks.2.hook_resid_pre", model_name="gpt2", context_size=128)
    with caplog.at_level(logging.WARNING):
        sae, report, origin = existing_sae(f"{tmp_path}/l{{layer}}", store, ORIGIN)
    assert "cannot be verified" in caplog.text
    assert report["loaded"] == str(tmp_path / "l1") and report["model_verified"] is False
    assert report["weights"] == sha256_file(tmp_path / "l1" / WEIGHTS)
    assert (report["hook_name"], report["model_name"]) == ("blocks.2.hook_resid_pre", "gpt2")
    # Where it is used is known here; on what it was trained only to the file.
    assert origin == {**ORIGIN, "context_size": 128, "prepend_bos": None}
    save_sae(sae, tmp_path / "again", **origin)
    again = load_sae(tmp_path / "again", layer=1, model_hash="abc", blocks="transformer.h")
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again(x), random_sae("jumprelu")(x))


def test_what_was_trained_on_another_model_place_or_width_is_refused(
    tmp_path: Path, store: ActivationStore, write_store: Callable[..., ActivationStore]
) -> None:
    for metadata, message in (
        ({"hook_name": "transformer.h.2"}, "the output of block 2, expected that of block 1"),
        ({"hook_name": "vision.layers.1"}, "not the output of a block of transformer.h"),
        ({"hook_name": "transformer.h.1", "model_hash": "other"}, "trained on other weights"),
    ):
        foreign(tmp_path / "l1", **metadata)
        with pytest.raises(InputError, match=message):
            existing_sae(f"{tmp_path}/l{{layer}}", store, ORIGIN)
    foreign(tmp_path / "l1", hook_name="transformer.h.1")
    wide = write_store({"en": np.ones((16, 8), dtype=np.float32)})
    with pytest.raises(InputError, match="d_in is 6, expected 8"):
        existing_sae(f"{tmp_path}/l{{layer}}", wide, ORIGIN)


@pytest.mark.parametrize("absent", [CONFIG, WEIGHTS])
def test_a_chosen_layer_without_files_is_named_before_anything_is_loaded(tmp_path: Path, absent: str) -> None:
    for layer in (1, 3):
        save_sae(random_sae("topk"), tmp_path / f"l{layer}", layer=layer)
    check_existing(f"{tmp_path}/l{{layer}}", [1, 3])
    (tmp_path / "l3" / absent).unlink()
    with pytest.raises(InputError, match=rf"sae\.load: .*l3 has no {absent} for the chosen layer 3"):
        check_existing(f"{tmp_path}/l{{layer}}", [1, 3])


@pytest.mark.regression("SAE-08")
def test_options_of_training_beside_load_are_refused() -> None:
    assert SaeOptions(load="a/{layer}").load == "a/{layer}"
    with pytest.raises(
        InputError, match=r"sae\.load: nothing is trained, so sae\.k, sae\.seed would not act"
    ):
        SaeOptions(load="a/{layer}", k=3, seed=1)
