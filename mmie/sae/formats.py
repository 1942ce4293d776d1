"""Save and load autoencoders in SAELens' own format: `cfg.json` and `sae_weights.safetensors`.

SAELens stores the encoder as [width, latents] and knows three inference rules: topk, jumprelu (also for
what was trained as BatchTopK or Matryoshka) and gated. What MMIE adds goes into `metadata`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mmie.errors import InputError
from mmie.io import read_json, read_safetensors, write_json, write_safetensors
from mmie.sae.autoencoder import SparseAutoencoder
from mmie.sae.gated import GatedSAE
from mmie.sae.jumprelu import JumpReLUSAE
from mmie.sae.topk import TopKSAE

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SPARSIFY_WEIGHTS = "sae.safetensors"
HOOK_POINT = "output of the block"
CONVENTIONS = {
    "apply_b_dec_to_input": True,
    "normalize_activations": "none",
    "reshape_activations": "none",
    "dtype": "float32",
}
SCALED = "rescale_acts_by_decoder_norm"
"""Of topk alone: whether pre-activations are compared times the norm of their decoder rows."""
FORMATS: dict[str, type[TopKSAE] | type[JumpReLUSAE] | type[GatedSAE]] = {
    "topk": TopKSAE,
    "jumprelu": JumpReLUSAE,
    "gated": GatedSAE,
}
NAMES = {"w_enc": "W_enc", "w_dec": "W_dec"}
"""Parameters that SAELens calls otherwise."""


def save_sae(
    sae: SparseAutoencoder,
    directory: str | Path,
    *,
    layer: int,
    hook_name: str | None = None,
    model_name: str = "",
    model_hash: str = "",
    context_size: int = 1024,
    prepend_bos: bool = True,
) -> None:
    """Write an autoencoder so that SAELens and `load_sae` read it.

    Args:
        sae: the autoencoder, on any device.
        directory: created if missing.
        layer: block whose output it was trained on.
        hook_name: path of that block in the model; `model.layers.{layer}` when None.
        model_name: name of the model.
        model_hash: hash of the model's weights; `load_sae` can insist on it.
        context_size: longest item of the training data, in tokens.
        prepend_bos: whether items started with a BOS token.
    """
    directory = Path(directory)
    weights = {NAMES.get(name, name): value.float() for name, value in sae.named_parameters()}
    weights["W_enc"] = weights["W_enc"].T
    write_safetensors(directory / WEIGHTS, weights)
    own = {"k": sae.k, SCALED: False} if sae.format == "topk" else {}
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
                "trained_as": sae.architecture,
                "k": sae.k,
                "model_name": model_name,
                "model_hash": model_hash,
                "hook_name": hook_name or f"model.layers.{layer}",
                "hook_layer": layer,
                "hook_point": HOOK_POINT,
                "context_size": context_size,
                "prepend_bos": prepend_bos,
            },
        },
    )


def load_sae(
    directory: str | Path,
    *,
    layer: int | None = None,
    width: int | None = None,
    model_hash: str | None = None,
) -> SparseAutoencoder:
    """Read an autoencoder; nothing is guessed and nothing may be missing or left over.

    Args:
        directory: where `save_sae` (or SAELens) wrote.
        layer: block that its codes will be read and edited at, if it must match.
        width: residual dimension of the model, if it must match.
        model_hash: weights it must have been trained on.

    Returns:
        The autoencoder in fp32 on the CPU, without gradients; what was trained as BatchTopK or
        Matryoshka comes back as the JumpReLU that it is at inference.

    Raises:
        InputError: missing or truncated file, another architecture or convention, wrong keys, shapes,
            layer, width, hook point or model.
    """
    directory = Path(directory)
    config = read_json(directory / CONFIG)
    kind = config.get("architecture")
    if kind not in FORMATS:
        _require(directory, "architecture", kind, " or ".join(FORMATS))
    for name, expected in CONVENTIONS.items():
        _require(directory, name, config.get(name), expected)
    metadata: dict[str, Any] = config.get("metadata", {})
    if layer is not None:
        _require(directory, "metadata.hook_layer", metadata.get("hook_layer"), layer)
        _require(directory, "metadata.hook_point", metadata.get("hook_point"), HOOK_POINT)
    if width is not None:
        _require(directory, "d_in", config.get("d_in"), width)
    if model_hash is not None:
        _require(directory, "metadata.model_hash", metadata.get("model_hash"), model_hash)
    k = config["k"] if kind == "topk" else metadata.get("k", 1)
    sae = FORMATS[kind](config["d_in"], config["d_sae"], k)
    weights = _read_weights(directory / WEIGHTS)
    expected_shapes = {NAMES.get(name, name): tuple(value.shape) for name, value in sae.named_parameters()}
    expected_shapes["W_enc"] = (sae.width, sae.latents)
    _require_shapes(directory / WEIGHTS, weights, expected_shapes)
    weights["W_enc"] = weights["W_enc"].T
    if config.get(SCALED, False):
        # Exact: the norms move into the encoder, and what was compared stays what is compared.
        norms = weights["W_dec"].norm(dim=1)
        weights["W_enc"] = weights["W_enc"] * norms[:, None]
        weights["b_enc"] = weights["b_enc"] * norms
        weights["W_dec"] = weights["W_dec"] / norms[:, None]
    return _filled(sae, {name: weights[NAMES.get(name, name)] for name, _ in sae.named_parameters()})


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
    config = read_json(directory / CONFIG)
    # Multi-TopK is a training loss; at inference such a coder is a plain TopK.
    for name, expected in {"activation": "topk", "transcode": False, "skip_connection": False}.items():
        _require(directory, name, config.get(name, expected), expected)
    weights = _read_weights(directory / SPARSIFY_WEIGHTS)
    width = config["d_in"]
    # 0 is their default and means the expansion factor.
    latents = config["num_latents"] or width * config["expansion_factor"]
    sae = TopKSAE(width, latents, config["k"])
    places = {"w_enc": "encoder.weight", "b_enc": "encoder.bias", "w_dec": "W_dec", "b_dec": "b_dec"}
    shapes = {places[name]: tuple(value.shape) for name, value in sae.named_parameters()}
    _require_shapes(directory / SPARSIFY_WEIGHTS, weights, shapes)
    filled = _filled(sae, {name: weights[place] for name, place in places.items()})
    assert isinstance(filled, TopKSAE)
    return filled


@torch.no_grad()
def _filled(sae: SparseAutoencoder, weights: dict[str, torch.Tensor]) -> SparseAutoencoder:
    for name, parameter in sae.named_parameters():
        parameter.copy_(weights[name])
    return sae.requires_grad_(False)


def _require_shapes(
    path: Path, weights: dict[str, torch.Tensor], expected: dict[str, tuple[int, ...]]
) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if found != expected:
        raise InputError(f"{path}: tensors {found}, expected {expected}. Train the autoencoder again.")


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError

    try:
        return read_safetensors(path)
    except SafetensorError as error:
        raise InputError(f"{path}: cannot be read ({error}). Train the autoencoder again.") from error


def _require(directory: Path, name: str, found: object, expected: object) -> None:
    if found != expected:
        raise InputError(
            f"{directory / CONFIG}: {name} is {found!r}, expected {expected!r}. "
            "Use the autoencoder where it was trained, or train one for this place."
        )
