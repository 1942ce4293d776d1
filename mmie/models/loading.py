"""Loading a causal language model and its tokenizer, from a directory or the Hugging Face Hub."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from mmie.errors import InputError


def load_model(
    directory: str | Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[Any, Any]:
    """Load a model for measurement: evaluation mode, no gradients, safetensors only.

    Args:
        directory: a local directory, or the name of a repository of the Hub (`org/name`).
        device: where the model goes, such as "cpu" or "cuda".
        dtype: "float32", "bfloat16" or "float16".
        revision: commit, tag or branch of a Hub repository; has no meaning for a directory.
        trust_remote_code: run code that comes with the weights; off unless the config says so.

    Returns:
        (model, tokenizer).

    Raises:
        InputError: the directory or its weights are missing, or weights and architecture disagree.
    """
    import torch
    from transformers.utils import logging

    # A progress bar a load would be most of the log file of a job.
    logging.disable_progress_bar()
    name = str(directory)
    if not _is_hub_name(name) and not (Path(name) / "config.json").is_file():
        raise InputError(f"{name}: no model here (config.json is missing). Check the path.")
    if dtype not in ("float32", "bfloat16", "float16"):
        raise InputError(f"model.dtype: {dtype!r} is unknown. Use float32, bfloat16 or float16.")
    model_class = _model_class(name, trust_remote_code)
    try:
        model, notes = model_class.from_pretrained(
            name,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            revision=revision or "main",
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    except OSError as error:
        raise InputError(
            f"{name}: cannot load the model ({error}). "
            "Give a directory with safetensors weights, or the name of a Hub repository."
        ) from error
    _check_complete(name, notes)
    model.to(device).eval().requires_grad_(False)
    return model, load_tokenizer(directory, revision=revision, trust_remote_code=trust_remote_code)


def load_tokenizer(
    directory: str | Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> Any:
    """Load the tokenizer of a model; a local one without a class of its own loads directly."""
    name = str(directory)
    try:
        tokenizer = _tokenizer_class(name, trust_remote_code).from_pretrained(
            name, revision=revision or "main", trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"{name}: cannot load the tokenizer ({error}). It must lie beside the weights."
        ) from error
    if tokenizer.eos_token_id is None:
        raise InputError(f"{name}: the tokenizer has no end token. Set eos_token.")
    return tokenizer


def save_model(model: Any, tokenizer: Any, directory: str | Path) -> None:
    """Write weights as safetensors, config and tokenizer into an existing directory.

    `load_model` reads it back bit for bit.
    """
    folder = Path(directory)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    mode = (folder / "config.json").stat().st_mode
    for weights in folder.glob("*.safetensors"):
        # The safetensors library makes files private; a result is for the whole group.
        weights.chmod(mode)


def _is_hub_name(name: str) -> bool:
    return not Path(name).exists() and not name.startswith((".", "/", "~")) and name.count("/") <= 1


def _tokenizer_class(name: str, trust_remote_code: bool) -> Any:
    """The plain tokenizers back end where the files ask for it: the registry is slow to import."""
    config = Path(name) / "tokenizer_config.json"
    if config.is_file() and not trust_remote_code:
        declared = json.loads(config.read_text(encoding="utf-8")).get("tokenizer_class")
        if declared in ("PreTrainedTokenizerFast", "TokenizersBackend"):
            from transformers import PreTrainedTokenizerFast

            return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer


def _model_class(name: str, trust_remote_code: bool) -> Any:
    """The class that config.json names, where transformers has it; the Auto class otherwise.

    Naming the class spares importing the whole registry of architectures.
    """
    config = Path(name) / "config.json"
    if config.is_file() and not trust_remote_code:
        content = json.loads(config.read_text(encoding="utf-8"))
        architecture = (content.get("architectures") or [""])[0]
        module = f"transformers.models.{content.get('model_type')}.modeling_{content.get('model_type')}"
        if architecture.endswith("ForCausalLM") and importlib.util.find_spec(module):
            return getattr(importlib.import_module(module), architecture)
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM


def _check_complete(name: str, notes: dict[str, Any]) -> None:
    """transformers only warns when weights do not fit; here that is an error."""
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = sorted(map(str, notes.get(kind) or []))
        if keys:
            raise InputError(
                f"{name}: {len(keys)} {kind.replace('_', ' ')} in the weights, such as {keys[0]}. "
                "The weights do not belong to this config.json."
            )
