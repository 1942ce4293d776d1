"""Loading a causal language model and its tokenizer, from a directory or the Hugging Face Hub."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from mmie.errors import InputError
from mmie.io import read_json, write_json

CHOICES = "loading.json"
"""Beside the weights of `results/.../base`: how every later stage loads them."""
SPREAD = "balanced"
"""Name that accelerate gives to blocks spread evenly over all GPUs."""
# What transformers says when a kernel cannot be had.
_KERNEL_WORDS = ("attn_implementation", "attention implementation", "FlashAttention", "FlexAttention")


def load_model(
    directory: str | Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    revision: str | None = None,
    trust_remote_code: bool = False,
    attention: str | None = None,
    blocks: str | None = None,
) -> tuple[Any, Any]:
    """Load a model for measurement: evaluation mode, no gradients, safetensors only.

    A directory that has the choices of `record_choices` is loaded by them, so that every stage and every
    arm computes with the same kernel and acts on the same blocks.

    Args:
        directory: a local directory, or the name of a repository of the Hub (`org/name`).
        device: where the model goes, such as "cpu" or "cuda"; "balanced" spreads its blocks over all GPUs.
        dtype: "float32", "bfloat16" or "float16".
        revision: commit, tag or branch of a Hub repository; has no meaning for a directory.
        trust_remote_code: run code that comes with the weights; off unless the config says so.
        attention: attention kernel by the name that transformers gives it; None for the recorded one, or
            else what transformers takes for this architecture.
        blocks: path of the list of decoder blocks; None for the recorded one, or else by structure.

    Returns:
        (model, tokenizer).

    Raises:
        InputError: the directory or its weights are missing, weights and architecture disagree, the kernel
            is not available here, the GPUs cannot hold the model, or the weights are quantised.
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
    _refuse_quantised(name)
    recorded = _recorded_choices(name)
    attention, blocks = attention or recorded.get("attention"), blocks or recorded.get("blocks")
    model_class = _model_class(name, trust_remote_code)
    try:
        model, notes = model_class.from_pretrained(
            name,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            revision=revision or "main",
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **({"attn_implementation": attention} if attention else {}),
            **({"device_map": SPREAD} if device == SPREAD else {}),
        )
    except (ImportError, ValueError) as error:
        if attention is None or not any(word in str(error) for word in _KERNEL_WORDS):
            raise
        raise _kernel_unavailable(name, attention, str(error)) from error
    except OSError as error:
        raise InputError(
            f"{name}: cannot load the model ({error}). "
            "Give a directory with safetensors weights, or the name of a Hub repository."
        ) from error
    _check_complete(name, notes)
    if quantised_modules(model) or getattr(model, "is_quantized", False):
        raise _quantised(name)
    if attention is not None and attention_kernel(model) != attention:
        raise _kernel_unavailable(name, attention, f"transformers took {attention_kernel(model)!r} instead")
    if blocks is not None:
        from mmie.models.blocks import name_blocks

        name_blocks(model, blocks)
    if device == SPREAD:
        _require_on_gpus(model, name)
    else:
        model.to(device)
    model.eval().requires_grad_(False)
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


def _require_on_gpus(model: Any, name: str) -> None:
    """Blocks kept in main memory or on disk have no weights that could be hashed or trained."""
    if {parameter.device.type for parameter in model.parameters()} & {"cpu", "meta"}:
        raise InputError(
            f"{name}: the GPUs cannot hold the model; parts of it would stay in main memory or on disk. "
            "Give more GPUs (model.gpus), or set model.dtype to bfloat16."
        )


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


def attention_kernel(model: Any) -> str:
    """The attention kernel that a model computes with, by the name that transformers gives it."""
    return str(model.config._attn_implementation)


def record_choices(model: Any, directory: str | Path, *, blocks: str | None = None) -> dict[str, Any]:
    """Write beside the weights how `load_model` shall load them from now on, and return it.

    Returns:
        `attention`, the kernel the model computes with now, and `blocks`, the path of its block list or
        None for the one found by structure.
    """
    choices = {"attention": attention_kernel(model), "blocks": blocks}
    write_json(Path(directory) / CHOICES, choices)
    return choices


def precision(model: Any) -> dict[str, Any]:
    """Types of a model's parameters, and whether anything in it is quantised, for its manifest."""
    return {
        "dtypes": sorted({str(value.dtype).removeprefix("torch.") for value in model.parameters()}),
        "quantised": quantised_modules(model),
    }


def quantised_modules(model: Any) -> list[str]:
    """Names of modules whose weights are kept in a compressed form; none after `load_model`.

    A compressed weight is no floating-point tensor: bitsandbytes, GPTQ and AWQ keep integers, under names of
    their own or in a parameter of their own class.
    """
    found = set()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        owner, _, leaf = name.rpartition(".")
        packed = type(tensor).__name__ in ("Params4bit", "Int8Params")
        if packed or leaf == "qweight" or (leaf == "weight" and not tensor.is_floating_point()):
            found.add(owner)
    return sorted(found)


def _recorded_choices(name: str) -> dict[str, Any]:
    file = Path(name) / CHOICES
    return dict(read_json(file)) if file.is_file() else {}


def _kernel_unavailable(name: str, attention: str, why: str) -> InputError:
    return InputError(
        f"model.attention: {attention!r} cannot be used for {name} here ({why}). "
        "Install what it needs, or set model.attention to `sdpa` or `eager`."
    )


def _refuse_quantised(name: str) -> None:
    """Precision is what the configuration says, never what files or the machine suggest."""
    config = Path(name) / "config.json"
    if config.is_file() and json.loads(config.read_text(encoding="utf-8")).get("quantization_config"):
        raise _quantised(name)


def _quantised(name: str) -> InputError:
    return InputError(
        f"{name}: the weights are quantised, but model.dtype names a floating-point type. "
        "Give the model before quantisation; the attacks quantise it where that is wanted."
    )


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
        # Of some architectures the model type is no package (gemma3_text); the registry knows those.
        package = importlib.util.find_spec(module.rpartition(".")[0])
        if architecture.endswith("ForCausalLM") and package and importlib.util.find_spec(module):
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
