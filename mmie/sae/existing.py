"""Autoencoders that exist already, used in place of training one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmie.activations.storage import ActivationStore
from mmie.errors import InputError
from mmie.io import read_json, sha256_file
from mmie.sae.autoencoder import SparseAutoencoder
from mmie.sae.formats import CONFIG, WEIGHTS, load_sae

OWN = ("context_size", "prepend_bos")
"""What the file knows of its training, and this run does not."""


def existing_directory(template: str, layer: int) -> Path:
    """Where the autoencoder of a layer is: `{layer}` in `sae.load` stands for the layer."""
    return Path(template.replace("{layer}", str(layer)))


def check_existing(template: str, layers: Sequence[int]) -> None:
    """Raise an InputError unless `sae.load` has the files of every layer; nothing large is read."""
    for layer in layers:
        directory = existing_directory(template, layer)
        missing = [name for name in (CONFIG, WEIGHTS) if not (directory / name).is_file()]
        if missing:
            raise InputError(
                f"sae.load: {directory} has no {' and no '.join(missing)} for the chosen layer "
                f"{layer}. Correct the path, or leave sae.load out to train."
            )


def existing_sae(
    template: str, store: ActivationStore, origin: Mapping[str, Any]
) -> tuple[SparseAutoencoder, dict[str, Any], dict[str, Any]]:
    """The autoencoder of `sae.load` for a layer, checked against the place where it will be used.

    Args:
        template: see `existing_directory`.
        store: rows of the layer, which give the width.
        origin: of `origin_of`, for one that would be trained here.

    Returns:
        The autoencoder; in place of what training says, where it came from; its own `origin`.

    Raises:
        InputError: of `load_sae`. A file that names no hash of its model is accepted with a warning.
    """
    directory = existing_directory(template, store.layer)
    sae = load_sae(
        directory,
        layer=store.layer,
        width=store.width,
        model_hash=origin["model_hash"],
        blocks=origin["hook_name"].rpartition(".")[0],
        unverified=True,
    )
    metadata = read_json(directory / CONFIG).get("metadata") or {}
    report = {
        "loaded": str(directory),
        "weights": sha256_file(directory / WEIGHTS),
        "architecture": sae.architecture,
        "latents": sae.latents,
        "hook_name": metadata.get("hook_name"),
        "model_name": metadata.get("model_name"),
        "model_verified": bool(metadata.get("model_hash")),
    }
    return sae, report, {**origin, **{name: metadata.get(name) for name in OWN}}
