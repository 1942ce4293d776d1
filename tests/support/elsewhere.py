"""A second device on a machine that has one: tensors that say they are elsewhere, computed here.

Operators that mix them with ordinary tensors fail as they would with a GPU, so code that forgets to move
something is found out where there is none. Nothing about speed or rounding of a GPU follows from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

KIND = "elsewhere"
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
MOVING = ("aten::copy_", "aten::_to_copy", "aten::_copy_from")


class Elsewhere(Tensor):
    """A tensor of the pretended device around the one that has its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor, device: torch.device) -> Elsewhere:
        outer: Elsewhere = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(KIND, device.index or 0),
        )
        outer.inner = inner
        return outer

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.inner}, {self.device})"

    @property
    def data(self) -> Tensor:  # type: ignore[override]
        return self.detach()

    @data.setter
    def data(self, other: Tensor) -> None:
        assert isinstance(other, Elsewhere)
        self.inner = other.inner

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError(f"can't convert {self.device} device type tensor to numpy")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Dispatch(TorchDispatchMode):
    """Sees also what makes tensors from none."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            # In inference mode what is made of other operators comes here whole.
            with self:
                return func.decompose(*args, **(kwargs or {}))
        return _run(func, args, kwargs or {})


def _inner(tensor: Tensor) -> Tensor:
    return tensor.inner if isinstance(tensor, Elsewhere) else tensor


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operator on the inner tensors; its result is where its operands are or where it was told."""
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
    where = _common_device(func, tensors)
    given, options = tree_map_only(Tensor, _inner, (args, kwargs))
    if kwargs.get("device") is not None:
        device = torch.device(kwargs["device"])
        where, options = (device if device.type == KIND else None), {**options, "device": "cpu"}
    known = {id(_inner(tensor)): tensor for tensor in tensors}
    found = func(*given, **options)

    def outer(tensor: Tensor) -> Tensor:
        # An operator that works in place returns its operand.
        if id(tensor) in known:
            return known[id(tensor)]
        return tensor if where is None else Elsewhere(tensor, where)

    return tree_map_only(Tensor, outer, found)


def _common_device(func: Any, tensors: list[Tensor]) -> torch.device | None:
    """The pretended device that all operands are on, None for the processor, or the error of a GPU."""
    name = func._schema.name
    # Numbers without a dimension may come from the processor, as may the places of an indexing.
    bound = [tensor for tensor in tensors if tensor.ndim]
    if name in INDEXING:
        # The values that an assignment puts in must be where it puts them.
        values = tensors[-1:] if name != INDEXING[0] and tensors[-1].ndim else []
        there = [tensor for tensor in tensors[1:] if tensor.device.type == KIND]
        bound = [tensors[0], *there, *values]
    devices = {tensor.device for tensor in bound or tensors}
    if name in MOVING:
        devices = {tensors[0].device}
    if len(devices) > 1:
        raise RuntimeError(f"{func}: Expected all tensors to be on the same device, but found {devices}")
    device = next(iter(devices), None)
    return device if device is not None and device.type == KIND else None


class _Hooks(torch._C._acc.PrivateUse1Hooks):  # type: ignore[name-defined]
    """Registered for good, but there only while a test asks for it."""

    present = False

    def is_available(self) -> bool:
        return _Hooks.present

    def has_primary_context(self, dev_id: int) -> bool:
        return True

    def is_built(self) -> bool:
        return True


class _Module(backend_registration._DummyBackendModule):
    def is_available(self) -> bool:
        return _Hooks.present

    def device_count(self) -> int:
        return 2


def register() -> None:
    """Tell torch of the device, once a process; what `torch.tensor` needs of it comes before any dispatch."""
    if _kept:
        return
    backend_registration._setup_privateuseone_for_python_backend(KIND, _Module(), _Hooks())
    library = torch.library.Library("aten", "IMPL")

    def empty(size: Any, stride: Any = None, *, dtype: Any = None, device: Any = None, **_: Any) -> Tensor:
        made = (
            torch.empty(size, dtype=dtype)
            if stride is None
            else torch.empty_strided(size, stride, dtype=dtype)
        )
        return Elsewhere(made, torch.device(device))

    def fill(source: Tensor, target: Tensor, _non_blocking: bool = False) -> Tensor:
        _inner(target).copy_(_inner(source))
        return target

    library.impl("empty.memory_format", empty, "PrivateUse1")
    library.impl("empty_strided", empty, "PrivateUse1")
    library.impl("_copy_from", fill, "PrivateUse1")
    _kept.append(library)


_kept: list[Any] = []


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """The first of two devices that this machine pretends to have."""
    register()
    _Hooks.present = True
    try:
        with _Dispatch():
            yield torch.device(KIND, 0)
    finally:
        _Hooks.present = False


def place(model: Any, first: str = KIND, rest: str = KIND) -> Any:
    """Put a Llama's first block and what is before it on one device, all after it on another."""
    if first == rest:
        return model.to(first)
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    decoder = model.model
    head = [decoder.embed_tokens, decoder.rotary_emb, decoder.layers[0]]
    for part, device in [
        *((part, first) for part in head),
        *((part, rest) for part in (*decoder.layers[1:], decoder.norm, model.lm_head)),
    ]:
        add_hook_to_module(part.to(device), AlignDevicesHook(torch.device(device)))
    # As accelerate does with a device map: what the model returns is where its input was.
    add_hook_to_module(model, AlignDevicesHook(io_same_device=True))
    return model
