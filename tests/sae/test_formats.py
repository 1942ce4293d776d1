from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmie.errors import InputError
from mmie.io import read_json, read_safetensors, write_json, write_safetensors
from mmie.sae.formats import CONFIG, WEIGHTS, load_sae, save_sae
from mmie.sae.topk import TopKSAE


def saved(directory: Path) -> TopKSAE:
    generator = torch.Generator().manual_seed(0)
    sae = TopKSAE(6, 12, 3)
    sae.initialise(torch.randn(6, generator=generator), generator)
    with torch.no_grad():
        sae.w_enc += 0.1
        sae.b_enc -= 0.2
    save_sae(sae, directory, layer=2, model_name="nano", model_hash="abc")
    return sae


def test_a_round_trip_is_bit_equal(tmp_path: Path) -> None:
    sae = saved(tmp_path)
    again = load_sae(tmp_path, layer=2, width=6, model_hash="abc")
    x = torch.randn(5, 6)
    assert torch.equal(again(x), sae(x))
    assert again.k == 3
    assert not any(weights.requires_grad for weights in again.parameters())


def test_files_follow_the_convention_of_saelens(tmp_path: Path) -> None:
    sae = saved(tmp_path)
    config = read_json(tmp_path / CONFIG)
    weights = read_safetensors(tmp_path / WEIGHTS)
    assert weights["W_enc"].shape == (6, 12)
    assert weights["W_dec"].shape == (12, 6)
    assert (config["architecture"], config["d_in"], config["d_sae"], config["k"]) == ("topk", 6, 12, 3)
    x = torch.randn(5, 6)
    # SAELens: relu of the top k of (x - b_dec) @ W_enc + b_enc, times W_dec, plus b_dec.
    values, indices = ((x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]).topk(3)
    codes = torch.zeros(5, 12).scatter_(1, indices, values.relu())
    assert torch.allclose(codes @ weights["W_dec"] + weights["b_dec"], sae(x), atol=1e-6)


@pytest.mark.regression("SAE-19")
def test_another_layer_width_or_model_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(InputError, match="hook_layer is 2, expected 1"):
        load_sae(tmp_path, layer=1)
    with pytest.raises(InputError, match="d_in is 6, expected 8"):
        load_sae(tmp_path, width=8)
    with pytest.raises(InputError, match="model_hash"):
        load_sae(tmp_path, model_hash="other")


@pytest.mark.regression("SAE-20")
def test_another_hook_point_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    config = read_json(tmp_path / CONFIG)
    config["metadata"]["hook_point"] = "input of the block"
    write_json(tmp_path / CONFIG, config)
    with pytest.raises(InputError, match="hook_point"):
        load_sae(tmp_path, layer=2)


@pytest.mark.regression("SAE-18", "SAE-19", "ACT-25")
def test_missing_truncated_and_strange_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_sae(tmp_path)
    saved(tmp_path)
    path = tmp_path / WEIGHTS
    weights = read_safetensors(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(InputError, match="cannot be read"):
        load_sae(tmp_path)
    write_safetensors(path, {**weights, "scale": torch.ones(1)})
    with pytest.raises(InputError, match="scale"):
        load_sae(tmp_path)
    write_safetensors(path, {name: tensor for name, tensor in weights.items() if name != "b_enc"})
    with pytest.raises(InputError, match="b_enc"):
        load_sae(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        load_sae(tmp_path)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    config = read_json(tmp_path / CONFIG)
    write_json(tmp_path / CONFIG, {**config, "architecture": "jumprelu"})
    with pytest.raises(InputError, match="jumprelu"):
        load_sae(tmp_path)
