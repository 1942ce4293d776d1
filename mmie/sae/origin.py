"""Which model and which place in it an autoencoder belongs to, as the metadata of SAELens say it."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mmie.activations.identity import HOOK_POINT
from mmie.activations.storage import longest_item
from mmie.errors import InputError
from mmie.io import read_json
from mmie.models.blocks import block_path
from mmie.training.fingerprint import weights_hash

log = logging.getLogger(__name__)

BLOCKS_BACK = {"hook_resid_post": 0, "hook_out": 0, "hook_resid_pre": 1, "hook_in": 1}
"""TransformerLens' names of the stream at a block, and how many blocks earlier it was put out."""
MODULE_PATH = re.compile(r"((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)\.(\d+)")
"""A list of modules and a place in it; a second number would be a place inside a block."""


def origin_of(
    model: nn.Module,
    tokenizer: Any,
    base: str | Path,
    activations: str | Path,
    languages: Sequence[str],
    layer: int,
) -> dict[str, Any]:
    """What `save_sae` has to say of an autoencoder that was trained on stored activations.

    Args:
        model: the base model.
        tokenizer: its tokenizer.
        base: its directory, with the manifest of the base stage.
        activations: directory of the stored activations.
        languages: those that it was trained on.
        layer: block whose output was stored.

    Returns:
        Keyword arguments of `save_sae`: layer, hook_name, model_name, model_hash, context_size, prepend_bos.
    """
    return {
        "layer": layer,
        "hook_name": f"{block_path(model)}.{layer}",
        "model_name": read_json(Path(base) / "manifest.json")["config"]["base"],
        "model_hash": weights_hash(model.state_dict()),
        "context_size": longest_item(activations, languages, "fit"),
        # `encode_all` starts every item with it wherever the tokenizer has one.
        "prepend_bos": tokenizer.bos_token_id is not None,
    }


def check_read_point(
    file: Path, metadata: Mapping[str, Any], layer: int, *, blocks: str | None = None
) -> None:
    """Raise an InputError unless an autoencoder reads the output of block `layer`.

    Known spellings of a `hook_name`: path of the block in a Hugging Face model (`transformer.h.4`);
    `blocks.4.hook_resid_post` and `blocks.5.hook_resid_pre` of TransformerLens, and the names `hook_out` and
    `hook_in` of its version 3.

    Args:
        file: that the metadata are of, for messages.
        metadata: of `cfg.json`.
        layer: block that it must read.
        blocks: path of the list of blocks in the model, which the path of a module must then name; one may
            lack outer modules of the other.
    """
    hook_name = metadata.get("hook_name")
    if hook_name is None and "hook_point" not in metadata:
        raise InputError(
            f"{file}: metadata.hook_name is missing, so nothing says where in a model it reads. Add the one "
            "it was trained at."
        )
    other_layer = "Use the autoencoder of this layer, or train one."
    if hook_name is not None:
        reads = block_read(str(hook_name), blocks)
        if reads is None:
            raise InputError(
                f"{file}: metadata.hook_name is {hook_name!r}, which is not the output of a block"
                f"{f' of {blocks}' if blocks else ''}. Use an autoencoder of the residual stream, such as "
                f"`blocks.{layer}.hook_resid_post`, or train one."
            )
        if reads != layer:
            raise InputError(
                f"{file}: metadata.hook_name is {hook_name!r}, the output of block {reads}, expected that of "
                f"block {layer}. {other_layer}"
            )
    if "hook_point" in metadata:
        for name, expected in {"hook_layer": layer, "hook_point": HOOK_POINT}.items():
            require(file, f"metadata.{name}", metadata.get(name), expected, other_layer)
    _refuse_other_streams(file, metadata)


def block_read(hook_name: str, blocks: str | None = None) -> int | None:
    """The block whose output a hook name means (-1: the embeddings); None for any other place.

    Args:
        hook_name: see `check_read_point`.
        blocks: path of the list of blocks in the model.
    """
    lens = re.fullmatch(r"blocks\.(\d+)\.(\w+)", hook_name)
    if lens and lens[2] in BLOCKS_BACK:
        return int(lens[1]) - BLOCKS_BACK[lens[2]]
    module = MODULE_PATH.fullmatch(hook_name)
    if module and (blocks is None or _ends_alike(module[1], blocks)):
        return int(module[2])
    return None


def check_model(file: Path, metadata: Mapping[str, Any], model_hash: str, *, unverified: bool) -> None:
    """Raise an InputError unless an autoencoder was trained on the weights with this hash.

    Args:
        file: that the metadata are of, for messages.
        metadata: of `cfg.json`.
        model_hash: hash of the weights.
        unverified: accept metadata without a hash, as SAELens writes them, with a warning in the log.
    """
    found = metadata.get("model_hash")
    if not found and unverified:
        log.warning(
            "%s: metadata.model_hash is missing; whether it was trained on this model (it names %r) cannot "
            "be verified. Read its loss_recovered.",
            file,
            metadata.get("model_name"),
        )
        return
    if not found:
        raise InputError(
            f"{file}: metadata.model_hash is missing, so nothing says that it was trained on this model. "
            "Name it in sae.load: the sae stage measures it on this model and saves it with the hash."
        )
    remedy = "It was trained on other weights. Run the sae stage on this model."
    require(file, "metadata.model_hash", found, model_hash, remedy)


def require(file: Path, name: str, found: object, expected: object, remedy: str) -> None:
    """Raise an InputError with the remedy unless a key has the value expected."""
    if found != expected:
        raise InputError(f"{file}: {name} is {found!r}, expected {expected!r}. {remedy}")


def _refuse_other_streams(file: Path, metadata: Mapping[str, Any]) -> None:
    """Hooks of the right name whose activations are not those of the stream."""
    require(
        file,
        "metadata.hook_head_index",
        metadata.get("hook_head_index"),
        None,
        "It describes one attention head. Use an autoencoder of the residual stream.",
    )
    require(
        file,
        "metadata.hook_name_out",
        metadata.get("hook_name_out") or metadata.get("hook_name"),
        metadata.get("hook_name"),
        "It writes elsewhere than it reads. Use an autoencoder, not a transcoder.",
    )
    processing = metadata.get("model_from_pretrained_kwargs") or {}
    require(
        file,
        "metadata.model_from_pretrained_kwargs.center_writing_weights",
        bool(processing.get("center_writing_weights")),
        False,
        "TransformerLens had taken the mean out of the stream it was trained on. Use one that was trained on "
        "the model as it is.",
    )


def _ends_alike(path: str, other: str) -> bool:
    """Whether one dotted path is the other without outer modules."""
    return f".{path}".endswith(f".{other}") or f".{other}".endswith(f".{path}")
