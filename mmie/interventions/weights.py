"""Exchange a model's weights for a while, without touching the originals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from mmie.errors import InputError


@contextmanager
def exchanged(model: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """Let the model compute with other tensors inside the `with` statement.

    The original storage is set aside and put back, never written to, so restoring is exact. Tensors
    take the device and type of those they replace.

    Args:
        model: unwrapped; every tensor must be one of its parameters or persistent buffers.
        tensors: by name; all shapes must agree.

    Raises:
        InputError: an unknown name or another shape; nothing was exchanged then.
    """
    own = model.state_dict(keep_vars=True)
    wrong = sorted(name for name in tensors if name not in own or own[name].shape != tensors[name].shape)
    if wrong:
        raise InputError(f"weights {wrong[:4]} do not fit the model. Use a model of identical architecture.")
    originals = {name: own[name].data for name in tensors}
    try:
        for name, tensor in tensors.items():
            original = originals[name]
            own[name].data = tensor.detach().to(device=original.device, dtype=original.dtype)
        yield model
    finally:
        for name, original in originals.items():
            own[name].data = original
