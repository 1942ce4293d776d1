"""Safetensors files of a size that is known beforehand, filled and read back piece by piece."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

ELEMENTS: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "BF16": np.dtype("<u2"),
    "I32": np.dtype("<i4"),
    "BOOL": np.dtype("?"),
}
"""NumPy types of the format's types; NumPy has no bf16, so it stands as its bits."""

Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Type (of `ELEMENTS`) and shape of each tensor."""


class TensorFile:
    """A new safetensors file whose tensors are laid out at once and written by rows, in any order.

    Nothing is mapped: pages of a mapping count as memory of the process for as long as it stands.
    Use it in a `with` statement; a block that ends well leaves the file on the disk.

    Args:
        path: overwritten.
        layout: tensors in this order; wider types first, so that each begins at a multiple of its size.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self._shapes = {name: shape for name, (_, shape) in layout.items()}
        self._types = {name: ELEMENTS[kind] for name, (kind, _) in layout.items()}
        header: dict[str, Any] = {}
        begin = 0
        for name, (kind, shape) in layout.items():
            end = begin + int(np.prod(shape, dtype=np.int64)) * self._types[name].itemsize
            header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}
            begin = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._begins = {name: 8 + len(text) + entry["data_offsets"][0] for name, entry in header.items()}
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._put(struct.pack("<Q", len(text)) + text, 0)
        os.truncate(self._file, 8 + len(text) + begin)

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                os.fsync(self._file)
        finally:
            os.close(self._file)

    def write(self, name: str, first: int, values: NDArray[Any]) -> None:
        """Put rows into a tensor, from row `first` on.

        Args:
            name: of the tensor.
            first: index along its first dimension.
            values: [rows, ...], of the tensor's type.
        """
        if values.dtype != self._types[name] or values.shape[1:] != self._shapes[name][1:]:
            raise ValueError(f"{name}: {values.dtype} {values.shape} for {self._shapes[name]}")
        self._put(np.ascontiguousarray(values).tobytes(), self._place(name, first))

    def read(self, name: str, first: int = 0, end: int | None = None) -> NDArray[Any]:
        """Rows `first` to `end` of a tensor, as written so far."""
        shape = self._shapes[name]
        rows = np.empty(((shape[0] if end is None else end) - first, *shape[1:]), self._types[name])
        left, at = rows.reshape(-1).view(np.uint8).data, self._place(name, first)
        while left:
            count = os.preadv(self._file, [left], at)
            left, at = left[count:], at + count
        return rows

    def _place(self, name: str, row: int) -> int:
        size = int(np.prod(self._shapes[name][1:], dtype=np.int64)) * self._types[name].itemsize
        return self._begins[name] + row * size

    def _put(self, content: bytes, at: int) -> None:
        left = memoryview(content)
        while left:
            count = os.pwrite(self._file, left, at)
            left, at = left[count:], at + count
