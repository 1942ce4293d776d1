"""Residual activations of one language, from one forward pass, streamed to disk.

Files in a language's directory:

- `layer{L}.safetensors`: `h` [rows, width] fp32, or bf16 where the blocks hand on bf16; one row a kept
  token, in item order;
- `rows.safetensors`, shared by the layers: `item`, `position`, `token`, `length` [rows] int32, and
  `keep` [layers, rows] bool, False on rows whose norm marks an attention sink at that layer;
- `sentences.safetensors`: `layer{L}` [items, width] fp32, the mean over the item's kept rows;
- `items.parquet`: one row an item, in the order of `sentences`;
- `extraction.json`: how it was made, counts of drops, norms by layer.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from mmie.activations.identity import HOOK_POINT, extraction_key, stored_report
from mmie.activations.items import TokenItems, sample_items, tokenise
from mmie.activations.storage import as_fp32
from mmie.activations.tensor_file import TensorFile
from mmie.errors import InputError
from mmie.io import atomic_directory, stable_hash, write_json, write_parquet
from mmie.models.blocks import Stream, check_layers, find_decoder, input_device, verify_blocks
from mmie.models.hooks import capture

if TYPE_CHECKING:
    import pandas as pd

ITEM_COLUMNS = (
    "example_id", "fact_id", "group", "template_id", "kind", "language", "script", "split",
)  # fmt: skip
CHUNK_BYTES = 2**22
"""Stored rows that the second pass holds in memory at a time."""
GIGABYTE = 1e9
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractionOptions:
    """How residual activations are read."""

    layers: Sequence[int] | None = None
    """Blocks to read; all when None."""
    token_budget: int = 4096
    """Tokens of one forward pass, pads included."""
    sink_factor: float = 10.0
    """Rows above so many median norms are set aside (saprmarks/dictionary_learning; 2402.17762)."""
    max_tokens: int | None = None
    """Rows of the language to store at most; whole items are sampled beyond it. None for all."""
    seed: int = 0
    """Decides which items a sample takes."""
    identity: Mapping[str, str] = field(default_factory=dict)
    """What the activations depend on (hashes of model and tokenizer); readers compare it."""


def extract_language(
    model: nn.Module,
    tokenizer: Any,
    rows: pd.DataFrame,
    directory: str | Path,
    options: ExtractionOptions | None = None,
) -> dict[str, Any]:
    """Write the activations of every item of one language; none of them stays in memory.

    Activations that are there already and were made of the same model, items, layers, hook point, settings
    and code are left as they are, and the model does not run.

    Args:
        model: the base model; its decoder runs without the head and stops after the last block.
        tokenizer: its tokenizer.
        rows: items with `prompt`, `answer`, `example_id` and whatever of `ITEM_COLUMNS` they have.
        directory: written whole or not at all.
        options: which layers, masks, batch size and sample.

    Returns:
        What `extraction.json` says: what it was made of (`key`), rows, drops by reason, mean and median norm
        a layer.

    Raises:
        InputError: no rows, an item without kept tokens, a sample without an item of every split, less room
            on the disk than the files take, a value that is not finite (with layer and item), activations
            in fp16.
    """
    options = options or ExtractionOptions()
    if rows.empty:
        raise InputError(
            f"{directory}: no rows to extract. Check the filters of the data stage; a neighbour without rows "
            "is no negative (`negatives`)."
        )
    _, blocks = find_decoder(model)
    layers = sorted(options.layers) if options.layers is not None else list(range(len(blocks)))
    check_layers(blocks, layers, "activations.layers")
    items, rows, sampled = _within_budget(tokenise(tokenizer, rows), rows, directory, options)
    key = extraction_key(
        model,
        tokens=items,
        items=_item_table(rows, items),
        layers=layers,
        settings={
            "blocks": next(name for name, module in model.named_modules() if module is blocks),
            "sink_factor": options.sink_factor,
            "token_budget": options.token_budget,
            "sampled": sampled,
        },
        identity=options.identity,
    )
    if (stored := stored_report(directory, key)) is not None:
        return stored
    stream = verify_blocks(model)
    with atomic_directory(directory) as partial:
        check_room(directory, partial, _bytes_needed(items, layers, stream), int(items.offsets[-1]))
        found = _write(model, items, layers, stream, partial, rows["example_id"].tolist(), options)
        write_parquet(partial / "items.parquet", _item_table(rows, items))
        report = {
            "key": key,
            "depth": len(blocks),
            "layers": layers,
            "hook_point": HOOK_POINT,
            "dtype": _stored_as(stream)[1],
            "items": len(items),
            "rows": int(items.offsets[-1]),
            "sampled": sampled,
            "dropped": {**items.dropped, "sink": found.pop("sink")},
            "sink_factor": options.sink_factor,
            **found,
            "item_hash": stable_hash(rows["example_id"].tolist()),
            "identity": dict(options.identity),
        }
        write_json(partial / "extraction.json", report)
    return report


def check_room(directory: str | Path, place: Path, needed: int, rows: int) -> None:
    """Refuse to start what the disk cannot hold.

    Args:
        directory: to be named in the message.
        place: an existing directory on that disk.
        needed: bytes to be written.
        rows: tokens that they store.

    Raises:
        InputError: less is free.
    """
    free = shutil.disk_usage(place).free
    if free < needed:
        raise InputError(
            f"{directory}: {needed / GIGABYTE:.1f} GB of activations for {rows} tokens, and "
            f"{free / GIGABYTE:.1f} GB free. Free some, or set activations.max_tokens to "
            f"{rows * free // needed} or less."
        )


def _within_budget(
    items: TokenItems, rows: pd.DataFrame, directory: str | Path, options: ExtractionOptions
) -> tuple[TokenItems, pd.DataFrame, dict[str, Any] | None]:
    """The items to store, their rows, and how they were sampled; None where all are stored."""
    if options.max_tokens is None or items.offsets[-1] <= options.max_tokens:
        return items, rows, None
    splits = rows["split"].tolist() if "split" in rows else [""] * len(rows)
    sizes = np.diff(items.offsets)
    chosen = sample_items(rows["example_id"].tolist(), splits, sizes, options.max_tokens, options.seed)
    sampled = {
        "max_tokens": options.max_tokens,
        "seed": options.seed,
        "items": len(items),
        "rows": int(items.offsets[-1]),
    }
    log.warning(
        "%s: activations.max_tokens keeps %d of %d items, %d of %d tokens",
        directory, len(chosen), len(items), sizes[chosen].sum(), items.offsets[-1],
    )  # fmt: skip
    return items.only(chosen), rows.iloc[chosen], sampled


def _stored_as(stream: Stream) -> tuple[str, str]:
    """Type of the stored rows, as the file format and as PyTorch call it."""
    return ("BF16", "bfloat16") if stream.dtype == torch.bfloat16 else ("F32", "float32")


def _bytes_needed(items: TokenItems, layers: Sequence[int], stream: Stream) -> int:
    """Size of the files, with that of the norms, which are deleted in the end."""
    a_row = stream.width * (2 if _stored_as(stream)[0] == "BF16" else 4) + 1 + 4
    rows = int(items.offsets[-1])
    return len(layers) * (rows * a_row + len(items) * stream.width * 4) + rows * 16


def _write(
    model: nn.Module,
    items: TokenItems,
    layers: Sequence[int],
    stream: Stream,
    directory: Path,
    names: Sequence[str],
    options: ExtractionOptions,
) -> dict[str, Any]:
    """Run the model and write every file of tensors: norms and counts of sinks by layer."""
    rows, width = int(items.offsets[-1]), stream.width
    kind = _stored_as(stream)[0]
    scratch = directory / "norms.safetensors"
    with ExitStack() as stack:

        def lay_out(name: str, layout: dict[str, tuple[str, tuple[int, ...]]]) -> TensorFile:
            return stack.enter_context(TensorFile(directory / f"{name}.safetensors", layout))

        files = {layer: lay_out(f"layer{layer}", {"h": (kind, (rows, width))}) for layer in layers}
        norms = lay_out("norms", {str(layer): ("F32", (rows,)) for layer in layers})
        sentences = lay_out("sentences", {f"layer{layer}": ("F32", (len(items), width)) for layer in layers})
        columns = {name: ("I32", (rows,)) for name in ("item", "position", "token", "length")}
        table = lay_out("rows", {**columns, "keep": ("BOOL", (len(layers), rows))})
        writer = _Writer(files, norms, items, names, as_bits=kind == "BF16")
        _run(model, items, writer, layers, options.token_budget)
        _write_columns(table, items)
        found: dict[str, Any] = {"sink": {}, "mean_norm": {}, "median_norm": {}}
        for at, layer in enumerate(layers):
            norm = norms.read(str(layer))
            median = float(np.median(norm))
            keep = norm <= options.sink_factor * median
            found["sink"][str(layer)] = int((~keep).sum())
            found["mean_norm"][str(layer)] = float(norm.mean())
            found["median_norm"][str(layer)] = median
            table.write("keep", at, keep[None])
            for start, means in _sentence_means(files[layer], width, keep, items, f"layer {layer}", names):
                sentences.write(f"layer{layer}", start, means)
    scratch.unlink()
    return found


class _Writer:
    """Receives block outputs batch by batch and puts every kept token into its row on disk."""

    def __init__(
        self,
        files: Mapping[int, TensorFile],
        norms: TensorFile,
        items: TokenItems,
        names: Sequence[str],
        as_bits: bool,
    ) -> None:
        self.as_bits = as_bits
        self.files = files
        self.norms = norms
        self.items = items
        self.names = names
        self.batch: Sequence[int] = ()
        self.where = torch.empty(0)

    def expect(self, batch: Sequence[int], where: Tensor) -> None:
        """Announce the items of the next pass and their kept tokens [batch, time]."""
        self.batch = batch
        self.where = where

    def receive(self, layer: int, hidden: Tensor, _keep: Tensor) -> None:
        """Store the output of one block."""
        if hidden.dtype == torch.float16:
            raise InputError(
                "model.dtype: float16 overflows in the residual stream. Use float32 or bfloat16."
            )
        chosen = hidden[self.where.to(hidden.device)]
        norms = torch.linalg.vector_norm(chosen.float(), dim=1).cpu().numpy()
        # NumPy has no bf16: its bits are written as they are.
        values = (chosen.view(torch.uint16) if self.as_bits else chosen.float()).cpu().numpy()
        begin = 0
        for item in self.batch:
            first, end = (int(self.items.offsets[at]) for at in (item, item + 1))
            own = slice(begin, begin + end - first)
            if not np.isfinite(norms[own]).all():
                self._refuse(layer, item, int(np.flatnonzero(~np.isfinite(norms[own]))[0]))
            self.files[layer].write("h", first, values[own])
            self.norms.write(str(layer), first, norms[own])
            begin = own.stop

    def _refuse(self, layer: int, item: int, row: int) -> None:
        position = int(np.flatnonzero(self.items.kept[self.items.of(item)])[row])
        raise InputError(
            f"layer {layer}, example {self.names[item]}, token {position}: the activation is not "
            "finite. Check the model's weights and dtype."
        )


def _run(
    model: nn.Module, items: TokenItems, writer: _Writer, layers: Sequence[int], token_budget: int
) -> None:
    """Run the decoder over all items, shortest first, and hand its block outputs to the writer."""
    decoder, _ = find_decoder(model)
    device = input_device(model)
    was_training = model.training
    model.eval()
    try:
        for batch in length_buckets(items.lengths.tolist(), token_budget):
            ids, mask, where = _right_padded(items, batch)
            writer.expect(batch, where)
            with torch.inference_mode(), capture(model, layers, receive=writer.receive, stop=True):
                decoder(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
    finally:
        model.train(was_training)


def length_buckets(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, each within the budget of tokens with its padding.

    An item that is longer than the budget is a batch of its own.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
        if batch and lengths[index] * (len(batch) + 1) > token_budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _right_padded(items: TokenItems, batch: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, attention mask and kept tokens of a batch, each [batch, time]."""
    width = int(items.lengths[list(batch)].max())
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    mask = torch.zeros(len(batch), width, dtype=torch.long)
    where = torch.zeros(len(batch), width, dtype=torch.bool)
    for row, at in enumerate(batch):
        tokens = items.of(at)
        length = tokens.stop - tokens.start
        ids[row, :length] = torch.from_numpy(items.ids[tokens])
        mask[row, :length] = 1
        where[row, :length] = torch.from_numpy(items.kept[tokens])
    return ids, mask, where


def _sentence_means(
    file: TensorFile, width: int, keep: np.ndarray, items: TokenItems, place: str, names: Sequence[str]
) -> Iterator[tuple[int, np.ndarray]]:
    """Mean of each item's kept rows: the first item of a chunk, and [items of the chunk, width]."""
    for start, end in items.chunks(max(1, CHUNK_BYTES // (4 * width))):
        first, last = int(items.offsets[start]), int(items.offsets[end])
        kept = np.flatnonzero(keep[first:last])
        counts = np.add.reduceat(keep[first:last], items.offsets[start:end] - first, dtype=np.int64)
        if not counts.all():
            lost = names[start + int(np.flatnonzero(counts == 0)[0])]
            raise InputError(
                f"example {lost}: every token is a sink at {place}. Raise activations.sink_factor."
            )
        # Sums over bags of rows: NumPy's reduction down columns is several times slower.
        starts = torch.from_numpy(np.concatenate([[0], np.cumsum(counts[:-1])]))
        chunk = torch.from_numpy(as_fp32(file.read("h", first, last)))
        yield start, embedding_bag(torch.from_numpy(kept), chunk, starts, mode="mean").numpy()


def _write_columns(table: TensorFile, items: TokenItems) -> None:
    for start, end in items.chunks(CHUNK_BYTES // 64):
        for name, values in items.columns(start, end).items():
            table.write(name, int(items.offsets[start]), values)


def _item_table(rows: pd.DataFrame, items: TokenItems) -> pd.DataFrame:
    table = rows[[name for name in ITEM_COLUMNS if name in rows]].reset_index(drop=True)
    table["tokens"] = np.diff(items.offsets)
    return table
