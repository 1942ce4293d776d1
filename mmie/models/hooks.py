"""Read and edit the residual stream at block outputs; the only place that registers hooks.

Read point, edit point and the point SAEs are trained at are one: the output of block `layer`. Hooks
live as long as a `with` statement and are removed on every way out of it. They run in the order in
which they were entered: a `capture` inside an `edit` of the same block sees the edited stream, one
around it sees the stream as it was.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mmie.errors import InputError
from mmie.models.blocks import check_layers, find_decoder, neurons

Edit = Callable[[Tensor, Tensor], Tensor]
"""(hidden [batch, time, width], keep [batch, time]) -> new hidden, same shape, dtype and device."""

Receiver = Callable[[int, Tensor, Tensor], None]
"""(layer, hidden [batch, time, width], keep [batch, time]) -> nothing."""


@dataclass
class Captured:
    """What `capture` saw in the latest forward pass."""

    hidden: dict[int, Tensor] = field(default_factory=dict)
    """Block output by layer, [batch, time, width]."""
    keep: Tensor | None = None
    """True on real tokens that are not the first of their sequence, [batch, time]."""


@dataclass(frozen=True)
class Pass:
    """What an edit with a memory must know about the forward pass that begins."""

    past: int
    """Positions that are in the key-value cache already; 0 begins a new request."""
    ids: Tensor | None
    """Token ids of the pass, [batch, time]; None when embeddings were given."""
    rows: Tensor | None = None
    """Rows of the previous pass that go on in this one, in order; None for all of them."""


@dataclass
class _State:
    """Hooks of one decoder, and the token mask while a forward pass is under way."""

    handles: int = 0
    disabled: int = 0
    keep: Tensor | None = None
    rows: Tensor | None = None


class _EndOfPass(Exception):
    """Ends a forward pass once the last wanted block has been read."""


_states: WeakKeyDictionary[nn.Module, _State] = WeakKeyDictionary()


@contextmanager
def edit(
    model: nn.Module, edits: Mapping[int, Edit], *, on_pass: Callable[[Pass], None] | None = None
) -> Iterator[nn.Module]:
    """Replace block outputs by `fn(hidden, keep)` while the block of the `with` statement runs.

    `keep` [batch, time] is True on real tokens but the first of each sequence (a sink, with
    or without BOS). Positions outside it are handed on untouched whatever `fn` returns. A `fn` that
    returns `hidden` itself leaves the output as it is, bit for bit.

    Args:
        model: a causal language model, wrapped by peft or not.
        edits: one function a layer.
        on_pass: called before every forward pass in which the edits are in force.

    Raises:
        InputError: unknown layer; `fn` changes shape, dtype or device; no usable attention mask.
    """
    decoder, blocks = find_decoder(model)
    check_layers(blocks, list(edits))
    with _editing(decoder, {layer: (blocks[layer], fn) for layer, fn in edits.items()}, on_pass):
        yield model


@contextmanager
def edit_neurons(model: nn.Module, edits: Mapping[int, Edit]) -> Iterator[nn.Module]:
    """As `edit`, for what the activation function of a block's feed-forward part returns.

    Its output [batch, time, neurons] is what a neuron fires; in gated blocks it is multiplied by the
    up projection afterwards, so a 0 there silences the neuron in both designs.
    """
    decoder, blocks = find_decoder(model)
    check_layers(blocks, list(edits))
    with _editing(decoder, {layer: (neurons(blocks[layer]), fn) for layer, fn in edits.items()}, None):
        yield model


@contextmanager
def _editing(
    decoder: nn.Module,
    edits: Mapping[int, tuple[nn.Module, Edit]],
    on_pass: Callable[[Pass], None] | None,
) -> Iterator[None]:
    state = _states.setdefault(decoder, _State())

    def hook_for(layer: int, fn: Edit) -> Callable[..., Any]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if state.disabled:
                return None
            hidden = unwrap(output)
            keep = _mask_for(state, hidden)
            new = fn(hidden, keep)
            if new is hidden:
                return None
            _check_edit(layer, hidden, new)
            new = torch.where(keep.unsqueeze(-1), new, hidden)
            return (new, *output[1:]) if isinstance(output, tuple) else new

        return hook

    with ExitStack() as stack:
        _watch_mask(stack, decoder, state, on_pass)
        for layer, (module, fn) in sorted(edits.items(), key=lambda entry: entry[0]):
            _register(stack, state, module.register_forward_hook(hook_for(layer, fn)))
        yield


@contextmanager
def capture(
    model: nn.Module,
    layers: Iterable[int],
    *,
    receive: Receiver | None = None,
    stop: bool = False,
) -> Iterator[Captured]:
    """Record block outputs of forward passes inside the `with` statement.

    Args:
        model: a causal language model, wrapped by peft or not.
        layers: blocks to read.
        receive: called with every output as it appears, instead of keeping the tensors.
        stop: end the pass after the last wanted block. The rest of the `with` body is then skipped,
            so it holds one forward pass.

    Raises:
        InputError: unknown layer, no usable attention mask.
    """
    wanted = sorted(layers)
    decoder, blocks = find_decoder(model)
    check_layers(blocks, wanted)
    state = _states.setdefault(decoder, _State())
    captured = Captured()

    def hook_for(layer: int) -> Callable[..., None]:
        def hook(_block: nn.Module, _inputs: Any, output: Any) -> None:
            hidden = unwrap(output)
            keep = _mask_for(state, hidden)
            if receive is None:
                captured.hidden[layer] = hidden
                captured.keep = keep
            else:
                receive(layer, hidden, keep)
            if stop and layer == wanted[-1]:
                raise _EndOfPass

        return hook

    with ExitStack() as stack:
        _watch_mask(stack, decoder, state)
        for layer in wanted:
            _register(stack, state, blocks[layer].register_forward_hook(hook_for(layer)))
        try:
            yield captured
        except _EndOfPass:
            if not stop:
                raise


@contextmanager
def disabled(model: nn.Module) -> Iterator[nn.Module]:
    """Switch every edit and every peft adapter of the model off: the frozen reference.

    Re-entrant; the previous state returns also after an exception. Captures stay on.
    """
    decoder, _ = find_decoder(model)
    state = _states.setdefault(decoder, _State())
    with ExitStack() as stack:
        if hasattr(model, "disable_adapter") and hasattr(model, "peft_config"):
            stack.enter_context(cast(Any, model).disable_adapter())
        state.disabled += 1
        try:
            yield model
        finally:
            state.disabled -= 1


@contextmanager
def capture_neurons(model: nn.Module, receive: Receiver) -> Iterator[None]:
    """Hand what every neuron of every block fires, [batch, time, neurons], to `receive`."""
    decoder, blocks = find_decoder(model)

    def reading(layer: int) -> Edit:
        def read(fired: Tensor, keep: Tensor) -> Tensor:
            receive(layer, fired, keep)
            return fired

        return read

    places = {layer: (neurons(block), reading(layer)) for layer, block in enumerate(blocks)}
    with _editing(decoder, places, None):
        yield


def hook_count(model: nn.Module) -> int:
    """Number of our hooks on the model now; 0 outside every `with` statement."""
    state = _states.get(find_decoder(model)[0])
    return state.handles if state else 0


def unwrap(output: Any) -> Tensor:
    """Hidden states of a block's output: itself, or the first entry of a tuple (Bloom, Falcon)."""
    hidden = output[0] if isinstance(output, tuple) else output
    if not isinstance(hidden, Tensor) or hidden.ndim != 3:
        raise InputError(
            f"a block returned {type(output).__name__}, not hidden states [batch, time, width]. "
            "This architecture is not supported."
        )
    return hidden


def kept_tokens(real: Tensor, *, last: int | None = None) -> Tensor:
    """True on real tokens but the first of every sequence.

    Args:
        real: attention mask of the whole sequence, [batch, time], 1 or True on real tokens; padding
            may stand on either side.
        last: return only the last so many positions, those a step with a cache computes.

    Returns:
        [batch, time] or [batch, last], bool.
    """
    real = real.bool()
    keep = real & (real.cumsum(-1) > 1)
    return keep if last is None else keep[:, keep.shape[1] - last :]


def hold(stack: ExitStack, model: nn.Module, handle: Any) -> None:
    """Count a hook that another module of this package registered, and remove it with the stack."""
    _register(stack, _states.setdefault(find_decoder(model)[0], _State()), handle)


@contextmanager
def going_on_with(model: nn.Module, rows: Tensor | None) -> Iterator[None]:
    """Say that a forward pass goes on with some rows of the latest one: what has a memory follows.

    Args:
        model: a causal language model, wrapped by peft or not.
        rows: their numbers, in the order that they will have; None for all of them.
    """
    if rows is None:
        yield
        return
    state = _states.setdefault(find_decoder(model)[0], _State())
    state.rows = rows
    try:
        yield
    finally:
        state.rows = None


def rows_going_on(model: nn.Module) -> Tensor | None:
    """Rows of the latest pass that this one goes on with; None for all of them."""
    state = _states.get(find_decoder(model)[0])
    return state.rows if state else None


def edits_disabled(model: nn.Module) -> bool:
    """Whether the model runs inside `disabled`, as the frozen reference."""
    state = _states.get(find_decoder(model)[0])
    return state is not None and state.disabled > 0


def _watch_mask(
    stack: ExitStack,
    decoder: nn.Module,
    state: _State,
    on_pass: Callable[[Pass], None] | None = None,
) -> None:
    """Keep `state.keep` up to date during forward passes of the decoder, and empty outside them."""
    parameters = inspect.signature(decoder.forward)

    def before(_decoder: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        given = parameters.bind_partial(*args, **kwargs).arguments
        state.keep = _mask_of(given)
        if on_pass is not None and not state.disabled:
            on_pass(Pass(_past(given), given.get("input_ids"), state.rows))

    def after(_decoder: nn.Module, _inputs: Any, _output: Any) -> None:
        state.keep = None

    first = decoder.register_forward_pre_hook(before, with_kwargs=True)
    _register(stack, state, first)
    _register(stack, state, decoder.register_forward_hook(after, always_call=True))


def _register(stack: ExitStack, state: _State, handle: Any) -> None:
    state.handles += 1

    def remove() -> None:
        handle.remove()
        state.handles -= 1

    stack.callback(remove)


def _mask_of(given: Mapping[str, Any]) -> Tensor:
    """The kept tokens [batch, time] of the pass that these forward arguments start."""
    ids = given.get("input_ids")
    embeds = given.get("inputs_embeds")
    source = ids if ids is not None else embeds
    if source is None:
        raise InputError("the model was called without input_ids. Pass input_ids by name.")
    batch, time = source.shape[:2]
    past = _past(given)
    mask = given.get("attention_mask")
    if mask is None:
        mask = torch.ones(batch, past + time, dtype=torch.bool, device=source.device)
    if not isinstance(mask, Tensor) or mask.shape != (batch, past + time):
        shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(
            f"attention_mask {shape}: expected [batch, time] = [{batch}, {past + time}], 1 on real "
            "tokens. Pass the tokenizer's mask, with the cached positions included."
        )
    return kept_tokens(mask, last=time)


def _past(given: Mapping[str, Any]) -> int:
    cache = given.get("past_key_values")
    return int(cache.get_seq_length()) if cache is not None else 0


def _mask_for(state: _State, hidden: Tensor) -> Tensor:
    keep = state.keep
    if keep is None:
        raise InputError(
            "a block ran outside its model's forward pass, so its padding is unknown "
            "(gradient checkpointing does this). Turn gradient checkpointing off."
        )
    if keep.shape != hidden.shape[:2]:
        raise InputError(
            f"hidden states {tuple(hidden.shape)} do not match the token mask {tuple(keep.shape)}. "
            "Call the model with one [batch, time] input."
        )
    return keep.to(hidden.device)


def _check_edit(layer: int, old: Tensor, new: Tensor) -> None:
    if new.shape != old.shape or new.dtype != old.dtype or new.device != old.device:
        raise InputError(
            f"the edit of layer {layer} turned {tuple(old.shape)} {old.dtype} on {old.device} into "
            f"{tuple(new.shape)} {new.dtype} on {new.device}. Return what was received, edited."
        )
