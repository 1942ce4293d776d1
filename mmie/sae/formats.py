"""Save and load autoencoders in SAELens' own format: `cfg.json` and `sae_weights.safetensors`.

SAELens stores the encoder as [width, latents] and knows these inference rules among others: topk, jumprelu
(also for what was trained as BatchTopK or Matryoshka), gated, and standard, which is a jumprelu with
thresholds of 0. What MMIE adds goes into `metadata`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmie.errors import InputError
from mmie.io import read_json, read_safetensors, write_json, write_safetensors
from mmie.sae.autoencoder import SparseAutoencoder
from mmie.sae.gated import GatedSAE
from mmie.sae.jumprelu import JumpReLUSAE
from mmie.sae.origin import HOOK_POINT, check_model, check_read_point, require
from mmie.sae.topk import TopKSAE

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SPARSIFY_WEIGHTS = "sae.safetensors"
FORMAT_VERSION = "6.54.12"
"""SAELens whose format this is; a file without a version is one before 6 to it, and loses its metadata."""
CONVENTIONS = {
    "apply_b_dec_to_input": True,
    "normalize_activations": "none",
    "reshape_activations": "none",
    "dtype": "float32",
}
"""As MMIE writes them."""
SCALED = "rescale_acts_by_decoder_norm"
"""Of topk alone: whether pre-activations are compared times the norm of their decoder rows."""
FORMATS: dict[str, type[TopKSAE] | type[JumpReLUSAE] | type[GatedSAE]] = {
    "topk": TopKSAE,
    "jumprelu": JumpReLUSAE,
    "standard": JumpReLUSAE,
    "gated": GatedSAE,
}
NAMES = {"w_enc": "W_enc", "w_dec": "W_dec"}
"""Parameters that SAELens calls otherwise."""
EXACT = (torch.float32, torch.bfloat16, torch.float16)
"""Types of weights that float32 holds without rounding."""


def save_sae(
    sae: SparseAutoencoder,
    directory: str | Path,
    *,
    layer: int,
    hook_name: str | None = None,
    model_name: str | None = None,
    model_hash: str | None = None,
    context_size: int | None = None,
    prepend_bos: bool | None = None,
) -> None:
    """Write an autoencoder so that SAELens and `load_sae` read it.

    What is None is not known, and left out; SAELens evaluates only where all but the hash are given.

    Args:
        sae: the autoencoder, on any device.
        directory: created if missing.
        layer: block whose output it was trained on.
        hook_name: path of that block in the Hugging Face model, such as `transformer.h.3`.
        model_name: name or path that the model is loaded by.
        model_hash: hash of the model's weights; `load_sae` can insist on it.
        context_size: longest item of the training data, in tokens.
        prepend_bos: whether items started with a BOS token.
    """
    directory = Path(directory)
    weights = {NAMES.get(name, name): value.float() for name, value in sae.named_parameters()}
    weights["W_enc"] = weights["W_enc"].T
    write_safetensors(directory / WEIGHTS, weights)
    own = {"k": sae.k, SCALED: False} if sae.format == "topk" else {}
    known = {
        "hook_name": hook_name,
        "model_name": model_name,
        "model_hash": model_hash,
        "context_size": context_size,
        "prepend_bos": prepend_bos,
    }
    write_json(
        directory / CONFIG,
        {
            "architecture": sae.format,
            **CONVENTIONS,
            **own,
            "d_in": sae.width,
            "d_sae": sae.latents,
            "device": "cpu",
            "metadata": {
                "sae_lens_version": FORMAT_VERSION,
                "trained_as": sae.architecture,
                "k": sae.k,
                "hook_layer": layer,
                "hook_point": HOOK_POINT,
                # Hooks of SAELens by paths of modules, as opposed to TransformerLens' own names.
                "model_class_name": "AutoModelForCausalLM",
                **{name: value for name, value in known.items() if value is not None},
            },
        },
    )


def load_sae(
    directory: str | Path,
    *,
    layer: int | None = None,
    width: int | None = None,
    model_hash: str | None = None,
    blocks: str | None = None,
    unverified: bool = False,
) -> SparseAutoencoder:
    """Read an autoencoder; nothing is guessed and nothing may be missing or left over.

    Other conventions of SAELens are converted where that is exact up to rounding: an encoder that does not
    subtract the decoder bias, comparison by decoder norms, weights in half precision.

    Args:
        directory: where `save_sae` (or SAELens) wrote.
        layer: block that its codes will be read and edited at, if it must match; `check_read_point` says
            which names of a hook mean it.
        width: residual dimension of the model, if it must match.
        model_hash: weights it must have been trained on.
        blocks: path of the list of blocks in the model, if paths of modules must name it.
        unverified: accept a file that says no `model_hash`, with a warning in the log.

    Returns:
        The autoencoder in fp32 on the CPU, without gradients; what was trained as BatchTopK or
        Matryoshka comes back as the JumpReLU that it is at inference, and so does a standard one. `k` is 1
        where the file does not say.

    Raises:
        InputError: missing or truncated file, another architecture or convention, wrong keys, shapes,
            layer, width, hook point or model.
    """
    directory = Path(directory)
    file = directory / CONFIG
    config = read_json(file)
    _check_conventions(file, config)
    metadata: dict[str, Any] = config.get("metadata") or {}
    if layer is not None:
        check_read_point(file, metadata, layer, blocks=blocks)
    if width is not None:
        remedy = "That is the width of another model. Use an autoencoder of this one, or train one."
        require(file, "d_in", config.get("d_in"), width, remedy)
    if model_hash is not None:
        check_model(file, metadata, model_hash, unverified=unverified)
    kind = config["architecture"]
    sae = FORMATS[kind](*_sizes(file, config, config if kind == "topk" else {"k": metadata.get("k", 1)}))
    weights = _read_weights(directory / WEIGHTS)
    expected = {NAMES.get(name, name): tuple(value.shape) for name, value in sae.named_parameters()}
    expected["W_enc"] = (sae.width, sae.latents)
    if kind == "standard":
        del expected["threshold"]
    _require_shapes(directory / WEIGHTS, weights, expected)
    converted = _converted(weights, config)
    return _filled(sae, {name: converted[NAMES.get(name, name)] for name, _ in sae.named_parameters()})


def load_sparsify(directory: str | Path) -> TopKSAE:
    """Read what sparsify saved: `cfg.json` and `sae.safetensors` of one hook point.

    Args:
        directory: of the hook point.

    Returns:
        The autoencoder in fp32 on the CPU, without gradients. Save it with `save_sae` to say where it
        belongs.

    Raises:
        InputError: missing or truncated file, wrong shapes, or a coder that is no TopK autoencoder
            (group-max, transcoder, skip connection).
    """
    directory = Path(directory)
    file = directory / CONFIG
    config = read_json(file)
    # Multi-TopK is a training loss; at inference such a coder is a plain TopK.
    for name, expected in {"activation": "topk", "transcode": False, "skip_connection": False}.items():
        remedy = "Use a TopK autoencoder of sparsify, or train one."
        require(file, name, config.get(name, expected), expected, remedy)
    # 0 is their default and means the expansion factor.
    if config.get("num_latents") == 0:
        factor = _count(file, config, "expansion_factor")
        config = {**config, "num_latents": factor * _count(file, config, "d_in")}
    sae = TopKSAE(*_sizes(file, config, config, latents="num_latents"))
    weights = _read_weights(directory / SPARSIFY_WEIGHTS)
    places = {"w_enc": "encoder.weight", "b_enc": "encoder.bias", "w_dec": "W_dec", "b_dec": "b_dec"}
    shapes = {places[name]: tuple(value.shape) for name, value in sae.named_parameters()}
    _require_shapes(directory / SPARSIFY_WEIGHTS, weights, shapes)
    filled = _filled(sae, {name: weights[place] for name, place in places.items()})
    assert isinstance(filled, TopKSAE)
    return filled


def _check_conventions(file: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("architecture")
    if kind not in FORMATS:
        raise InputError(
            f"{file}: architecture is {kind!r}, expected {' or '.join(FORMATS)}. Use one of these; SAELens "
            "saves what it trained as BatchTopK or Matryoshka as jumprelu by `save_inference_model`."
        )
    subtracts = config.get("apply_b_dec_to_input")
    if not isinstance(subtracts, bool):
        remedy = "Load it with SAELens 6 and save it again."
        raise InputError(f"{file}: apply_b_dec_to_input is {subtracts!r}, expected true or false. {remedy}")
    for name, remedy in (
        (
            "normalize_activations",
            "Fold the factor into the weights in SAELens (`fold_activation_norm_scaling_factor`) and save it "
            "again; normalisation of each token cannot be folded.",
        ),
        ("reshape_activations", "Use an autoencoder of the residual stream, not of attention heads."),
    ):
        require(file, name, config.get(name), CONVENTIONS[name], remedy)


def _sizes(
    file: Path, config: Mapping[str, Any], firing: Mapping[str, Any], *, latents: str = "d_sae"
) -> tuple[int, int, int]:
    """Width, latents and k."""
    width, count, k = _count(file, config, "d_in"), _count(file, config, latents), _count(file, firing, "k")
    if k > count:
        raise InputError(f"{file}: k is {k}, more than the {count} latents. Correct it.")
    return width, count, k


def _count(file: Path, config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        found = f"{key} is {value!r}" if key in config else f"{key} is missing"
        raise InputError(f"{file}: {found}, expected a whole number above 0. Correct it, or save it again.")
    return value


def _converted(weights: dict[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights of SAELens under our conventions; `W_enc` is [latents, width]."""
    out = {**weights, "W_enc": weights["W_enc"].T}
    if config["architecture"] == "standard":
        out["threshold"] = torch.zeros_like(out["b_enc"])
    if not config["apply_b_dec_to_input"]:
        # W x + b = W (x - b_dec) + (b + W b_dec); the strength of a gated latent has exp(r) W for W.
        shift = out["W_enc"].double() @ out["b_dec"].double()
        for name in ("b_enc", "b_gate", "b_mag"):
            if name in out:
                own = shift * out["r_mag"].double().exp() if name == "b_mag" else shift
                out[name] = (out[name].double() + own).float()
    if config.get(SCALED, False):
        # Exact: the norms move into the encoder, and what was compared stays what is compared.
        norms = out["W_dec"].norm(dim=1)
        out["W_enc"] = out["W_enc"] * norms[:, None]
        out["b_enc"] = out["b_enc"] * norms
        # A latent without direction has code 0 from now on and writes nothing.
        out["W_dec"] = out["W_dec"] / torch.where(norms > 0, norms, 1.0)[:, None]
    return out


@torch.no_grad()
def _filled(sae: SparseAutoencoder, weights: Mapping[str, Tensor]) -> SparseAutoencoder:
    for name, parameter in sae.named_parameters():
        parameter.copy_(weights[name])
    return sae.requires_grad_(False)


def _require_shapes(
    path: Path, weights: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]
) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if found != expected:
        raise InputError(
            f"{path}: tensors {found}, expected {dict(expected)} by {CONFIG}. Copy both files again from "
            "where they were saved."
        )


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a file in float32."""
    from safetensors import SafetensorError

    try:
        weights = read_safetensors(path)
    except SafetensorError as error:
        raise InputError(
            f"{path}: cannot be read ({error}). Copy it again, or run the sae stage again."
        ) from error
    for name, tensor in weights.items():
        if tensor.dtype not in EXACT:
            raise InputError(
                f"{path}: {name} is {tensor.dtype}, which float32 would round. Save it as float32."
            )
    return {name: tensor.float() for name, tensor in weights.items()}
