"""Save and load autoencoders in SAELens' own format: `cfg.json` and `sae_weights.safetensors`.

SAELens stores the encoder as [width, latents]. What MMIE adds goes to files beside these two, so that
strict loaders stay content.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mmie.errors import InputError
from mmie.io import read_json, read_safetensors, write_json, write_safetensors
from mmie.sae.topk import TopKSAE

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
HOOK_POINT = "output of the block"
CONVENTIONS = {
    "architecture": "topk",
    "apply_b_dec_to_input": True,
    "normalize_activations": "none",
    "reshape_activations": "none",
    "rescale_acts_by_decoder_norm": False,
    "dtype": "float32",
}


def save_sae(
    sae: TopKSAE,
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
    weights = {
        "W_enc": sae.w_enc.float().T,
        "W_dec": sae.w_dec.float(),
        "b_enc": sae.b_enc.float(),
        "b_dec": sae.b_dec.float(),
    }
    write_safetensors(directory / WEIGHTS, weights)
    write_json(
        directory / CONFIG,
        {
            **CONVENTIONS,
            "d_in": sae.width,
            "d_sae": sae.latents,
            "k": sae.k,
            "device": "cpu",
            "metadata": {
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
) -> TopKSAE:
    """Read an autoencoder; nothing is guessed and nothing may be missing or left over.

    Args:
        directory: where `save_sae` (or SAELens) wrote.
        layer: block that its codes will be read and edited at, if it must match.
        width: residual dimension of the model, if it must match.
        model_hash: weights it must have been trained on.

    Returns:
        The autoencoder in fp32 on the CPU, without gradients.

    Raises:
        InputError: missing or truncated file, another architecture or convention, wrong keys, shapes,
            layer, width, hook point or model.
    """
    directory = Path(directory)
    config = read_json(directory / CONFIG)
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
    weights = _read_weights(directory / WEIGHTS)
    sae = TopKSAE(config["d_in"], config["d_sae"], config["k"])
    shapes = {
        "W_enc": (sae.width, sae.latents),
        "W_dec": (sae.latents, sae.width),
        "b_enc": (sae.latents,),
        "b_dec": (sae.width,),
    }
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if found != shapes:
        raise InputError(
            f"{directory / WEIGHTS}: tensors {found}, expected {shapes}. Train the autoencoder again."
        )
    with torch.no_grad():
        sae.w_enc.copy_(weights["W_enc"].T)
        sae.w_dec.copy_(weights["W_dec"])
        sae.b_enc.copy_(weights["b_enc"])
        sae.b_dec.copy_(weights["b_dec"])
    return sae.requires_grad_(False)


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
