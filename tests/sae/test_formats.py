from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmie.errors import InputError
from mmie.io import read_json, read_safetensors, write_json, write_safetensors
from mmie.sae.architectures import ARCHITECTURES, build
from mmie.sae.autoencoder import SparseAutoencoder
from mmie.sae.formats import (
    CONFIG,
    WEIGHTS,
    load_sae,
    load_sparsify,
    save_sae,
)
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


def changed(directory: Path, **changes: object) -> None:
    """Change keys of `cfg.json`; those of the metadata by the name `metadata`."""
    config = read_json(directory / CONFIG)
    metadata = {**config["metadata"], **changes.pop("metadata", {})}  # type: ignore[dict-item]
    write_json(directory / CONFIG, {**config, **changes, "metadata": metadata})


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    changed(tmp_path, architecture="transcoder")
    with pytest.raises(InputError, match=r"'transcoder', expected topk or .*save_inference_model"):
        load_sae(tmp_path)
    changed(tmp_path, architecture="jumprelu")
    with pytest.raises(InputError, match=r"threshold.* Copy both files again"):
        load_sae(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalize_activations": "layer_norm"}, r"cfg\.json: normalize_activations.*cannot be folded"),
        ({"reshape_activations": "hook_z"}, r"cfg\.json: reshape_activations.*not of attention heads"),
        ({"apply_b_dec_to_input": None}, r"cfg\.json: apply_b_dec_to_input.*SAELens 6"),
        ({"d_in": None}, r"cfg\.json: d_in is None"),
        ({"d_sae": "12"}, r"cfg\.json: d_sae is '12'"),
        ({"k": True}, r"cfg\.json: k is True"),
        ({"k": 13}, r"cfg\.json: k is 13, more than the 12 latents"),
    ],
)
def test_a_wrong_key_is_named_with_its_file_and_remedy(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    saved(tmp_path)
    changed(tmp_path, **change)
    with pytest.raises(InputError, match=message):
        load_sae(tmp_path)


@pytest.mark.parametrize("key", ["d_in", "d_sae", "k"])
def test_a_missing_size_is_named_with_its_file(tmp_path: Path, key: str) -> None:
    saved(tmp_path)
    config = read_json(tmp_path / CONFIG)
    del config[key]
    write_json(tmp_path / CONFIG, config)
    with pytest.raises(InputError, match=rf"cfg\.json: {key} is missing"):
        load_sae(tmp_path)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_read_exactly(tmp_path: Path, kind: torch.dtype) -> None:
    saved(tmp_path)
    halves = {name: tensor.to(kind) for name, tensor in read_safetensors(tmp_path / WEIGHTS).items()}
    write_safetensors(tmp_path / WEIGHTS, halves)
    changed(tmp_path, dtype=str(kind).removeprefix("torch."))
    again = load_sae(tmp_path)
    assert again.w_enc.dtype == torch.float32
    assert torch.equal(again.w_enc, halves["W_enc"].T.float())
    assert torch.equal(again.b_dec, halves["b_dec"].float())


def test_weights_that_would_be_rounded_are_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    wide = {name: tensor.double() for name, tensor in read_safetensors(tmp_path / WEIGHTS).items()}
    write_safetensors(tmp_path / WEIGHTS, wide)
    with pytest.raises(InputError, match=r"safetensors: W_dec is torch\.float64.*Save it as float32"):
        load_sae(tmp_path)


@pytest.mark.parametrize("kind", ["topk", "jumprelu", "gated", "standard"])
def test_an_encoder_that_does_not_subtract_the_decoder_bias_is_converted(tmp_path: Path, kind: str) -> None:
    save_sae(random_sae("jumprelu" if kind == "standard" else kind), tmp_path, layer=1)
    weights = read_safetensors(tmp_path / WEIGHTS)
    weights["b_dec"] += 1.5
    if kind == "standard":
        del weights["threshold"]
    if kind == "gated":
        # Both paths must decide something, or a wrong shift of one would not show.
        weights["b_mag"] -= 0.6
    write_safetensors(tmp_path / WEIGHTS, weights)
    changed(tmp_path, architecture=kind, apply_b_dec_to_input=False)
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    u = x @ weights["W_enc"]
    if kind == "gated":
        q = x @ (weights["W_enc"] * weights["r_mag"].exp()) + weights["b_mag"]
        codes = (u + weights["b_gate"] > 0) * q.relu()
        assert ((u + weights["b_gate"] > 0) & (q <= 0)).any()
    elif kind == "topk":
        values, indices = (u + weights["b_enc"]).topk(3)
        codes = torch.zeros(50, 16).scatter_(1, indices, values.relu())
    else:
        u = u + weights["b_enc"]
        codes = u.relu() * (u > weights.get("threshold", torch.zeros(16)))
    assert 0 < (codes > 0).sum() < codes.numel()
    sae = load_sae(tmp_path)
    assert torch.allclose(sae.codes(x), codes, atol=1e-5)
    assert torch.allclose(sae(x), codes @ weights["W_dec"] + weights["b_dec"], atol=1e-5)


def test_a_standard_autoencoder_is_a_jumprelu_with_thresholds_of_zero(tmp_path: Path) -> None:
    save_sae(random_sae("jumprelu"), tmp_path, layer=1)
    weights = read_safetensors(tmp_path / WEIGHTS)
    changed(tmp_path, architecture="standard")
    with pytest.raises(InputError, match="threshold"):
        load_sae(tmp_path)
    del weights["threshold"]
    write_safetensors(tmp_path / WEIGHTS, weights)
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    codes = ((x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]).relu()
    assert torch.allclose(load_sae(tmp_path).codes(x), codes, atol=1e-6)


def random_sae(architecture: str, seed: int = 0) -> SparseAutoencoder:
    """Every parameter random, thresholds positive."""
    generator = torch.Generator().manual_seed(seed)
    sae = build(architecture, 6, 16, 3)
    sae.initialise(torch.randn(6, generator=generator), generator)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            if name != "w_dec":
                parameter += 0.2 * torch.rand(parameter.shape, generator=generator)
    return sae.requires_grad_(False)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_comes_back_bit_equal(tmp_path: Path, architecture: str) -> None:
    sae = random_sae(architecture)
    save_sae(sae, tmp_path, layer=1)
    again = load_sae(tmp_path, layer=1)
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again(x), sae(x))
    assert again.format == sae.format and again.k == 3
    assert read_json(tmp_path / CONFIG)["metadata"]["trained_as"] == architecture


@pytest.mark.parametrize("architecture", ["jumprelu", "gated"])
def test_learnt_thresholds_follow_the_convention_of_saelens(tmp_path: Path, architecture: str) -> None:
    sae = random_sae(architecture)
    save_sae(sae, tmp_path, layer=1)
    weights = read_safetensors(tmp_path / WEIGHTS)
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    u = (x - weights["b_dec"]) @ weights["W_enc"]
    # SAELens 6: encode of JumpReLUSAE and of GatedSAE.
    if architecture == "jumprelu":
        u = u + weights["b_enc"]
        codes = u.relu() * (u > weights["threshold"])
    else:
        open_gates = u + weights["b_gate"] > 0
        codes = open_gates * (u * weights["r_mag"].exp() + weights["b_mag"]).relu()
    assert 0 < (codes > 0).sum() < codes.numel()
    assert torch.allclose(codes @ weights["W_dec"] + weights["b_dec"], sae(x), atol=1e-5)


def test_decoder_norms_that_saelens_ranks_by_are_folded_exactly(tmp_path: Path) -> None:
    sae = saved(tmp_path)
    weights = read_safetensors(tmp_path / WEIGHTS)
    norms = torch.linspace(0.5, 2, 12)
    weights["W_dec"] = weights["W_dec"] * norms[:, None]
    write_safetensors(tmp_path / WEIGHTS, weights)
    config = read_json(tmp_path / CONFIG)
    write_json(tmp_path / CONFIG, {**config, "rescale_acts_by_decoder_norm": True})
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    # SAELens: pre-activations times the norms are compared; codes over the norms are decoded.
    u = ((x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]) * norms
    values, indices = u.topk(3)
    codes = torch.zeros(40, 12).scatter_(1, indices, values.relu())
    expected = (codes / norms) @ weights["W_dec"] + weights["b_dec"]
    again = load_sae(tmp_path)
    assert torch.allclose(again(x), expected, atol=1e-5)
    assert torch.allclose(again.w_dec.norm(dim=1), torch.ones(12), atol=1e-6)
    assert not torch.allclose(sae(x), expected, atol=1e-2)


def test_a_latent_without_direction_writes_nothing_where_norms_are_compared(tmp_path: Path) -> None:
    saved(tmp_path)
    weights = read_safetensors(tmp_path / WEIGHTS)
    weights["W_dec"][4] = 0
    # Two codes are positive at most, so that a third latent is selected with code 0.
    weights["b_enc"][:] = -100
    weights["b_enc"][[0, 1]] = 100
    write_safetensors(tmp_path / WEIGHTS, weights)
    changed(tmp_path, rescale_acts_by_decoder_norm=True)
    sae = load_sae(tmp_path)
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    codes = ((x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"])[:, :2]
    assert (codes > 0).all() and (sae.encode(x)[1] == 4).any()
    assert torch.allclose(sae(x), codes @ weights["W_dec"][:2] + weights["b_dec"], rtol=1e-4)


def write_sparsify(directory: Path, **changes: object) -> dict[str, torch.Tensor]:
    """Files as sparsify 1.3.3 writes them; `num_latents` is 0 unless it was set."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        "encoder.weight": torch.randn(12, 6, generator=generator),
        "encoder.bias": torch.randn(12, generator=generator),
        "W_dec": torch.nn.functional.normalize(torch.randn(12, 6, generator=generator)),
        "b_dec": torch.randn(6, generator=generator),
    }
    write_safetensors(directory / "sae.safetensors", weights)
    config = {
        "activation": "topk",
        "expansion_factor": 2,
        "normalize_decoder": True,
        "num_latents": 0,
        "k": 3,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": 6,
    }
    write_json(directory / CONFIG, {**config, **changes})
    return weights


def test_sparsify_files_are_read(tmp_path: Path) -> None:
    weights = write_sparsify(tmp_path)
    sae = load_sparsify(tmp_path)
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    values, indices = ((x - weights["b_dec"]) @ weights["encoder.weight"].T + weights["encoder.bias"]).topk(3)
    codes = torch.zeros(20, 12).scatter_(1, indices, values.relu())
    assert torch.allclose(sae(x), codes @ weights["W_dec"] + weights["b_dec"], atol=1e-5)
    assert (sae.width, sae.latents, sae.k) == (6, 12, 3)


@pytest.mark.parametrize(
    "change", [{"transcode": True}, {"skip_connection": True}, {"activation": "groupmax"}]
)
def test_what_is_no_topk_autoencoder_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    write_sparsify(tmp_path, **change)
    with pytest.raises(InputError, match=next(iter(change))):
        load_sparsify(tmp_path)


@pytest.mark.parametrize("key", ["d_in", "num_latents", "expansion_factor", "k"])
def test_a_missing_size_of_sparsify_is_named_with_its_file(tmp_path: Path, key: str) -> None:
    write_sparsify(tmp_path)
    config = read_json(tmp_path / CONFIG)
    del config[key]
    write_json(tmp_path / CONFIG, config)
    with pytest.raises(InputError, match=rf"cfg\.json: {key} is missing"):
        load_sparsify(tmp_path)
