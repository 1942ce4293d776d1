"""Find the decoder blocks of a causal language model, whatever its architecture calls them."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmie.errors import InputError

COUNT_NAMES = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def find_blocks(model: nn.Module, *, path: str | None = None) -> nn.ModuleList:
    """The list of decoder blocks, in order.

    A list qualifies by structure, not by name: it has exactly as many members as the model's
    configuration has layers, all of one class or family, and is not inside another such list. Works
    on wrapped models too (peft).

    Args:
        model: a causal language model with a `config`.
        path: dotted path of the list, for models where structure alone is ambiguous.

    Raises:
        InputError: no list or several qualify; the message lists the candidates.
    """
    return find_decoder(model, path=path)[1]


def find_decoder(model: nn.Module, *, path: str | None = None) -> tuple[nn.Module, nn.ModuleList]:
    """The module that runs the blocks (it receives ids and attention mask), and the blocks.

    Raises:
        InputError: as `find_blocks`.
    """
    name = type(model).__name__
    count = _layer_count(model)
    lists = {at: child for at, child in model.named_modules() if isinstance(child, nn.ModuleList)}
    listing = ", ".join(f"{at} ({len(child)})" for at, child in lists.items()) or "none"
    if count is None:
        raise InputError(
            f"{name}: its configuration states no number of layers ({', '.join(COUNT_NAMES)}), so "
            f"blocks cannot be verified. Lists in the model: {listing}. "
            "Use a transformers causal language model."
        )
    if path is not None:
        chosen = [path] if path in lists and len(lists[path]) == count else []
    else:
        chosen = [at for at, child in lists.items() if len(child) == count and _has_weights(child)]
        chosen = [at for at in chosen if not any(at.startswith(f"{other}.") for other in chosen)]
    if len(chosen) != 1:
        found = "no list" if not chosen else f"several lists ({', '.join(chosen)})"
        raise InputError(
            f"{name}: {found} of {count} blocks, the number its configuration states. "
            f"Candidates: {listing}. Name the right one by its path."
        )
    parent = model.get_submodule(chosen[0].rpartition(".")[0])
    return parent, lists[chosen[0]]


def check_layers(blocks: nn.ModuleList, layers: list[int]) -> None:
    """Raise an InputError unless every layer is the index of a block, each once."""
    wrong = [layer for layer in layers if not 0 <= layer < len(blocks)]
    if wrong or len(set(layers)) != len(layers) or not layers:
        raise InputError(
            f"layers {layers}: expected distinct indices from 0 to {len(blocks) - 1}. "
            "Correct the list of layers."
        )


def _layer_count(model: nn.Module) -> int | None:
    config: Any = getattr(model, "config", None)
    text = getattr(config, "get_text_config", None)
    config = text() if callable(text) else config
    for name in COUNT_NAMES:
        count = config.get(name) if isinstance(config, dict) else getattr(config, name, None)
        if isinstance(count, int):
            return count
    return None


def _has_weights(blocks: nn.ModuleList) -> bool:
    return all(next(block.parameters(), None) is not None for block in blocks)
