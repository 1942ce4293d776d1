"""Stored activations: memory-mapped rows of several languages that are never loaded whole."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from mmie.activations.tensor_file import ELEMENTS
from mmie.errors import InputError
from mmie.io import read_json, read_parquet, read_safetensors

if TYPE_CHECKING:
    import pandas as pd


def open_rows(path: Path) -> np.memmap:
    """The tensor `h` [rows, width] of a layer's file, mapped for reading; see `as_fp32` for its numbers.

    Raises:
        InputError: missing, truncated or of another kind.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file. Run the activation stage first.")
    with open(path, "rb") as stream:
        length = struct.unpack("<Q", stream.read(8))[0]
        entry = json.loads(stream.read(length)).get("h")
    if not entry or entry["dtype"] not in ("F32", "BF16") or len(entry["shape"]) != 2:
        raise InputError(f"{path}: no fp32 or bf16 matrix `h`. Delete it and extract again.")
    rows, width = entry["shape"]
    kind: Any = ELEMENTS[entry["dtype"]]
    if path.stat().st_size != 8 + length + rows * width * kind.itemsize:
        raise InputError(f"{path}: truncated. Delete it and extract again.")
    return np.memmap(path, kind, "r", offset=8 + length, shape=(rows, width))


def as_fp32(stored: np.ndarray) -> np.ndarray:
    """Stored rows as fp32; the bits of bf16 are the upper half of an fp32 number, so nothing is rounded."""
    if stored.dtype == np.float32:
        return np.asarray(stored)
    return (stored.astype(np.uint32) << 16).view(np.float32)


class ActivationStore:
    """Kept rows of one layer over several languages, addressed as one sequence.

    Args:
        root: directory with one directory a language.
        layer: block whose output was stored.
        languages: in this order.
        split: only items of this split ("fit", "dev", ...); all when None.
        sinks: with the rows that were set aside for their norm.

    Raises:
        InputError: missing files, a layer that was not extracted, languages extracted from different
            models, no rows left.
    """

    def __init__(
        self,
        root: str | Path,
        layer: int,
        languages: Sequence[str],
        split: str | None = None,
        *,
        sinks: bool = False,
    ) -> None:
        self.layer = layer
        self.languages = list(languages)
        self._rows: list[np.memmap] = []
        self._index: list[np.ndarray] = []
        self._items: list[np.ndarray] = []
        self.items: list[pd.DataFrame] = []
        self.median_norm: dict[str, float] = {}
        """Median norm of the layer's rows, by language."""
        self.sink_limit: dict[str, float] = {}
        """Rows above this norm were set aside as attention sinks, by language."""
        identities = []
        for language in self.languages:
            directory = Path(root) / language
            report = read_json(directory / "extraction.json")
            if layer not in report["layers"]:
                raise InputError(f"{directory}: layer {layer} was not read. Add it to activations.layers.")
            identities.append(report["identity"])
            self.median_norm[language] = report["median_norm"][str(layer)]
            self.sink_limit[language] = report["sink_factor"] * self.median_norm[language]
            table = read_safetensors(directory / "rows.safetensors")
            item = table["item"].numpy()
            keep = table["keep"].numpy()[report["layers"].index(layer)] | sinks
            items = read_parquet(directory / "items.parquet")
            if split is not None:
                keep &= (items["split"] == split).to_numpy()[item]
            self._rows.append(open_rows(directory / f"layer{layer}.safetensors"))
            self._index.append(np.flatnonzero(keep))
            self._items.append(item[keep])
            self.items.append(items)
            if not keep.any():
                raise InputError(
                    f"{directory}: no rows in split {split!r}. Check data.*_share, and `negatives` for a "
                    "neighbour that is only measured."
                )
        if any(identity != identities[0] for identity in identities):
            raise InputError(f"{root}: languages were extracted from different models. Extract them again.")
        self.identity: dict[str, str] = identities[0]
        self.width = int(self._rows[0].shape[1])
        self._starts = np.concatenate([[0], np.cumsum([len(index) for index in self._index])])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        """Rows by their place in the sequence, any order, [len(rows), width] fp32."""
        out = np.empty((len(rows), self.width), dtype=np.float32)
        language = self.language_of(rows)
        for at in np.unique(language):
            mine = language == at
            out[mine] = as_fp32(self._rows[at][self._index[at][rows[mine] - self._starts[at]]])
        return torch.from_numpy(out)

    def language_of(self, rows: np.ndarray) -> np.ndarray:
        """Index into `languages` of each row."""
        return np.searchsorted(self._starts, rows, side="right") - 1

    def range_of(self, language: str) -> range:
        """Rows of one language."""
        at = self.languages.index(language)
        return range(int(self._starts[at]), int(self._starts[at + 1]))

    def items_of(self, language: str) -> np.ndarray:
        """Items (rows of `items`) of one language that have rows here, ascending."""
        return np.unique(self._items[self.languages.index(language)]).astype(np.int64)

    def batches(self, language: str, size: int) -> Iterator[tuple[Tensor, np.ndarray]]:
        """Rows of one language in order, fp32, with the item (row of `items`) that each belongs to."""
        at = self.languages.index(language)
        for start in range(0, len(self._index[at]), size):
            chosen = slice(start, start + size)
            block = as_fp32(self._rows[at][self._index[at][chosen]])
            yield torch.from_numpy(block), self._items[at][chosen]


def load_rows(
    root: str | Path,
    layer: int,
    languages: Sequence[str],
    split: str | None = None,
    *,
    sinks: bool = False,
) -> ActivationStore:
    """The stored rows of a layer; see `ActivationStore`."""
    return ActivationStore(root, layer, languages, split, sinks=sinks)


def longest_item(root: str | Path, languages: Sequence[str], split: str) -> int:
    """Tokens of the longest stored item of a split, over several languages.

    Raises:
        InputError: missing files.
    """
    longest = 0
    for language in languages:
        directory = Path(root) / language
        table = read_safetensors(directory / "rows.safetensors")
        chosen = (read_parquet(directory / "items.parquet")["split"] == split).to_numpy()
        lengths = table["length"].numpy()[chosen[table["item"].numpy()]]
        longest = max(longest, int(lengths.max(initial=0)))
    return longest


class StoredSentences(Mapping[int, np.ndarray]):
    """Sentence vectors of some items of a language by layer, rising, each read anew from its file.

    Raises:
        InputError: no such file.
    """

    def __init__(self, path: Path, chosen: np.ndarray) -> None:
        if not path.exists():
            raise InputError(f"{path}: no such file. Run the activation stage first.")
        self._path, self._chosen = path, chosen
        with safe_open(path, "numpy") as file:
            names = file.keys()
        self._layers = sorted(int(name.removeprefix("layer")) for name in names)

    def __getitem__(self, layer: int) -> np.ndarray:
        if layer not in self._layers:
            raise KeyError(layer)
        with safe_open(self._path, "numpy") as file:
            vectors: np.ndarray = file.get_tensor(f"layer{layer}")
        return vectors[self._chosen]

    def __iter__(self) -> Iterator[int]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def depth_of(folder: str | Path) -> int:
    """How many blocks the model has whose activations were written here, read or not.

    Raises:
        InputError: written by a version that did not say.
    """
    report = read_json(Path(folder) / "extraction.json")
    if "depth" not in report:
        raise InputError(f"{folder}: extraction.json has no `depth`. Extract again.")
    return int(report["depth"])


def load_sentences(
    folders: Mapping[str, str | Path], split: str | None = "fit"
) -> tuple[dict[str, StoredSentences], dict[str, pd.DataFrame]]:
    """Sentence vectors {language: {layer: [items, width]}} and their items, of one split.

    A layer is read when it is asked for and not held, so that memory does not grow with the depth.

    Args:
        folders: where the activations of each language were written.
        split: "fit", "dev", ...; all items when None.

    Raises:
        InputError: missing files, languages with different layers, no items left.
    """
    sentences: dict[str, StoredSentences] = {}
    tables: dict[str, pd.DataFrame] = {}
    for language, folder in folders.items():
        directory = Path(folder)
        items = read_parquet(directory / "items.parquet")
        chosen = np.ones(len(items), bool) if split is None else (items["split"] == split).to_numpy()
        if not chosen.any():
            raise InputError(f"{directory}: no items in split {split!r}. Check data.*_share.")
        sentences[language] = StoredSentences(directory / "sentences.safetensors", chosen)
        tables[language] = items[chosen].reset_index(drop=True)
    if len({tuple(by_layer) for by_layer in sentences.values()}) > 1:
        raise InputError(
            f"{', '.join(map(str, folders.values()))}: languages differ in their layers. Extract them again."
        )
    return sentences, tables
