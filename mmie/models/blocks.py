"""Find the decoder blocks of a causal language model, whatever its architecture calls them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from mmie.errors import InputError

CONFIG_KEY = "model.blocks"
_MARK = "mmie_blocks"
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

    It is the nearest one around the list that takes token ids. Its parent need not be: BERT's list is in
    an encoder that takes hidden states.

    Raises:
        InputError: as `find_blocks`, or nothing around the blocks takes token ids.
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
    marked = [at for at, child in lists.items() if getattr(child, _MARK, False)]
    if path is not None:
        chosen = [path] if path in lists and len(lists[path]) == count else []
    elif marked:
        chosen = marked
    else:
        chosen = [at for at, child in lists.items() if len(child) == count and _has_weights(child)]
        chosen = [at for at in chosen if not any(at.startswith(f"{other}.") for other in chosen)]
    if len(chosen) != 1:
        found = "no list" if not chosen else f"several lists ({', '.join(chosen)})"
        raise InputError(
            f"{name}: {found} of {count} blocks, the number its configuration states. Looked for: "
            f"module lists of {count} members with weights, not inside another such list. "
            f"Candidates: {listing}. Name the right one in {CONFIG_KEY}, such as `model.layers`."
        )
    return _reads_ids(model, chosen[0]), lists[chosen[0]]


def _reads_ids(model: nn.Module, path: str) -> nn.Module:
    """The nearest module around `path` whose forward takes `input_ids`."""
    around = path
    while around:
        around = around.rpartition(".")[0]
        module = model.get_submodule(around)
        if "input_ids" in inspect.signature(module.forward).parameters:
            return module
    raise InputError(
        f"{type(model).__name__}: no module around the blocks {path} takes `input_ids`. "
        "Use a transformers causal language model."
    )


def block_path(model: nn.Module) -> str:
    """Dotted path of the list of decoder blocks, such as `model.layers`.

    Raises:
        InputError: as `find_blocks`.
    """
    blocks = find_blocks(model)
    return next(path for path, module in model.named_modules() if module is blocks)


def name_blocks(model: nn.Module, path: str) -> nn.ModuleList:
    """Say which list holds the blocks, for architectures where structure alone does not.

    The choice stays with the model, wrapped or not.

    Raises:
        InputError: no list at this path, or not as long as the configuration says.
    """
    blocks = find_blocks(model, path=path)
    setattr(blocks, _MARK, True)
    return blocks


@dataclass(frozen=True)
class Stream:
    """What the blocks hand on."""

    width: int
    dtype: torch.dtype
    """Holds what every block hands on without rounding."""


@torch.no_grad()
def verify_blocks(model: nn.Module) -> Stream:
    """Run four tokens and see that every block is called once, in order, and hands on the stream.

    Structure can deceive: a list may be of the right length and never run. Costs one tiny forward.

    Raises:
        InputError: a block was not called exactly once, in order, with an output [1, 4, width], or the
            model cannot be run from ids and an attention mask.
    """
    decoder, blocks = find_decoder(model)
    name = type(model).__name__
    order: list[int] = []
    shapes: list[tuple[int, ...]] = []
    types: list[torch.dtype] = []

    def watch(number: int) -> Any:
        def note(_block: nn.Module, _inputs: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            order.append(number)
            shapes.append(tuple(getattr(hidden, "shape", ())))
            types.append(getattr(hidden, "dtype", torch.float32))

        return note

    handles = [block.register_forward_hook(watch(at)) for at, block in enumerate(blocks)]
    try:
        ids = torch.tensor([[1, 2, 3, 1]], device=input_device(model))
        decoder(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name}: a probe of 4 tokens failed in {type(decoder).__name__}: {error} "
            "Use a causal language model that runs from input_ids and an attention_mask."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if order != list(range(len(blocks))) or len(set(shapes)) != 1 or shapes[0][:-1] != (1, 4):
        raise InputError(
            f"{name}: a probe of 4 tokens called blocks {order} with outputs "
            f"{sorted(set(shapes))}; expected each of {len(blocks)} once, in order, with [1, 4, width]. "
            f"Name the decoder blocks in {CONFIG_KEY}."
        )
    return Stream(shapes[0][-1], reduce(torch.promote_types, types))


def input_device(model: nn.Module) -> torch.device:
    """Where token ids go: to the embedding's device, which of several need not be every block's."""
    return block_device(_embedding(model))


@torch.no_grad()
def streams_of_blocks(model: nn.Module, ids: Tensor, layers: list[int]) -> dict[int, tuple[Tensor, Tensor]]:
    """The stream before and after some blocks, on a few tokens, without dropout.

    Args:
        model: a causal language model.
        ids: token ids, [batch, time].
        layers: blocks.

    Returns:
        By block, its input and its output, [batch, time, width] each.
    """
    decoder, blocks = find_decoder(model)
    check_layers(blocks, layers)
    found: dict[int, tuple[Tensor, Tensor]] = {}

    def watch(number: int) -> Any:
        def note(_block: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            after = output[0] if isinstance(output, tuple) else output
            found[number] = (args[0] if args else kwargs["hidden_states"], after)

        return note

    handles = [blocks[at].register_forward_hook(watch(at), with_kwargs=True) for at in layers]
    training, ids = model.training, ids.to(input_device(model))
    model.eval()
    try:
        decoder(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return found


def block_device(module: nn.Module) -> torch.device:
    """Where a module computes: what is added to its output belongs there.

    Offloaded weights are on `meta`; the hook that accelerate puts on such a module knows the device.

    Raises:
        InputError: the weights are nowhere and nothing says where they will run.
    """
    for part in module.modules():
        planned = getattr(getattr(part, "_hf_hook", None), "execution_device", None)
        if planned is not None:
            return torch.device(f"cuda:{planned}" if isinstance(planned, int) else planned)
    device = next(module.parameters()).device
    if device.type == "meta":
        raise InputError(
            f"{type(module).__name__}: its weights are on `meta` and no device map says where they run. "
            "Load the model on one device."
        )
    return device


def neurons(block: nn.Module) -> nn.Module:
    """The activation function of a block's feed-forward part, whose output is what its neurons fire.

    Raises:
        InputError: none or several, as in mixtures of experts.
    """
    found = [
        module
        for module in block.modules()
        if type(module).__module__ in ("transformers.activations", "torch.nn.modules.activation")
        and not isinstance(module, nn.MultiheadAttention)
    ]
    if len(found) != 1:
        names = ", ".join(type(module).__name__ for module in found) or "none"
        raise InputError(
            f"{type(block).__name__}: one activation function a block is expected, found {names}. "
            "Neurons of this architecture cannot be edited."
        )
    return found[0]


def check_layers(blocks: nn.ModuleList, layers: list[int], name: str = "layers") -> None:
    """Raise an InputError that names the list, unless every layer is the index of a block, each once."""
    wrong = [layer for layer in layers if not 0 <= layer < len(blocks)]
    if wrong or len(set(layers)) != len(layers) or not layers:
        raise InputError(
            f"{name} {layers}: expected distinct indices from 0 to {len(blocks) - 1}. "
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


def _embedding(model: nn.Module) -> nn.Module:
    embedding: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
    return embedding


def _has_weights(blocks: nn.ModuleList) -> bool:
    return all(next(block.parameters(), None) is not None for block in blocks)
