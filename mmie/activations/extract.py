"""Residual activations of one language, from one forward pass, streamed to disk.

Files in a language's directory:

- `layer{L}.safetensors`: `h` [rows, width] fp32, one row a kept token, in item order;
- `rows.safetensors`, shared by the layers: `item`, `position`, `token`, `length` [rows] int32, and
  `keep` [layers, rows] bool, False on rows whose norm marks an attention sink at that layer;
- `sentences.safetensors`: `layer{L}` [items, width] fp32, the mean over the item's kept rows;
- `items.parquet`: one row an item, in the order of `sentences`;
- `extraction.json`: how it was made, counts of drops, norms by layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from mmie.activations.identity import HOOK_POINT, extraction_key, stored_report
from mmie.activations.storage import create_rows, open_rows
from mmie.errors import InputError
from mmie.io import atomic_directory, stable_hash, write_json, write_parquet, write_safetensors
from mmie.models.blocks import block_device, find_decoder, verify_blocks
from mmie.models.hooks import capture

if TYPE_CHECKING:
    import pandas as pd

ITEM_COLUMNS = (
    "example_id", "fact_id", "group", "template_id", "kind", "language", "script", "split",
)  # fmt: skip
CHUNK = 32_768
"""Rows that the second pass over the stored activations holds in memory."""


@dataclass(frozen=True)
class ExtractionOptions:
    """How residual activations are read."""

    layers: tuple[int, ...] | None = None
    """Blocks to read; all when None."""
    token_budget: int = 4096
    """Tokens of one forward pass, pads included."""
    sink_factor: float = 10.0
    """Rows above so many median norms are set aside (saprmarks/dictionary_learning; 2402.17762)."""
    identity: Mapping[str, str] = field(default_factory=dict)
    """What the activations depend on (hashes of model and tokenizer); readers compare it."""


@dataclass(frozen=True)
class _Items:
    """Tokenised items and where their kept tokens are stored."""

    ids: list[list[int]]
    kept: list[np.ndarray]
    """Positions of kept tokens, per item."""
    offsets: np.ndarray
    """First row of each item, and the end: [items + 1]."""
    dropped: dict[str, int]


def extract_language(
    model: nn.Module,
    tokenizer: Any,
    rows: pd.DataFrame,
    directory: str | Path,
    options: ExtractionOptions | None = None,
) -> dict[str, Any]:
    """Write the activations of every item of one language; memory does not grow with the corpus.

    Activations that are there already and were made of the same model, items, layers, hook point, settings
    and code are left as they are, and the model does not run.

    Args:
        model: the base model; its decoder runs without the head and stops after the last block.
        tokenizer: its tokenizer.
        rows: items with `prompt`, `answer`, `example_id` and whatever of `ITEM_COLUMNS` they have.
        directory: written whole or not at all.
        options: which layers, masks and batch size.

    Returns:
        What `extraction.json` says: what it was made of (`key`), rows, drops by reason, mean and median norm
        a layer.

    Raises:
        InputError: no rows, an item without kept tokens, a value that is not finite (with layer and
            item), activations in fp16.
    """
    options = options or ExtractionOptions()
    if rows.empty:
        raise InputError(f"{directory}: no rows to extract. Check the filters of the data stage.")
    decoder, blocks = find_decoder(model)
    layers = sorted(options.layers) if options.layers is not None else list(range(len(blocks)))
    items = _tokenise(tokenizer, rows)
    key = extraction_key(
        model,
        ids=items.ids,
        kept=items.kept,
        items={str(name): column.tolist() for name, column in _item_table(rows, items).items()},
        layers=layers,
        settings={
            "blocks": next(name for name, module in model.named_modules() if module is blocks),
            "sink_factor": options.sink_factor,
            "token_budget": options.token_budget,
        },
        identity=options.identity,
    )
    if (stored := stored_report(directory, key)) is not None:
        return stored
    verify_blocks(model)
    with atomic_directory(directory) as partial:
        writer = _Writer(partial, items, layers, rows["example_id"].tolist())
        _stream(model, decoder, items, writer, options.token_budget)
        norms = writer.norms
        keep = np.stack([norms[layer] <= options.sink_factor * np.median(norms[layer]) for layer in layers])
        write_safetensors(
            partial / "sentences.safetensors",
            {
                f"layer{layer}": _sentence_means(partial, layer, keep[at], items, rows)
                for at, layer in enumerate(layers)
            },
        )
        write_safetensors(partial / "rows.safetensors", _row_table(items, keep))
        write_parquet(partial / "items.parquet", _item_table(rows, items))
        report = {"key": key, **_report(rows, items, layers, norms, keep, options)}
        write_json(partial / "extraction.json", report)
    return report


def _tokenise(tokenizer: Any, rows: pd.DataFrame) -> _Items:
    """Encode the items and decide which tokens become rows; the model is not needed for that."""
    from mmie.models.prompts import encode_all

    special = set(tokenizer.all_special_ids)
    ids: list[list[int]] = []
    kept: list[np.ndarray] = []
    dropped: Counter[str] = Counter()
    encoded = encode_all(tokenizer, rows["prompt"].tolist(), rows["answer"].tolist())
    for example, item in zip(rows["example_id"], encoded, strict=True):
        tokens = item.ids
        positions = [at for at, token in enumerate(tokens) if at > 0 and token not in special]
        dropped["first"] += 1
        dropped["special"] += len(tokens) - 1 - len(positions)
        if not positions:
            raise InputError(f"example {example}: no token left to read. Remove the empty row.")
        ids.append(tokens)
        kept.append(np.array(positions, dtype=np.int64))
    offsets = np.concatenate([[0], np.cumsum([len(positions) for positions in kept])])
    return _Items(ids, kept, offsets, dict(dropped))


class _Writer:
    """Receives block outputs batch by batch and puts every kept token into its row on disk."""

    def __init__(self, directory: Path, items: _Items, layers: list[int], names: list[str]) -> None:
        self.directory = directory
        self.items = items
        self.names = names
        self.files: dict[int, np.memmap] = {}
        self.norms = {layer: np.empty(items.offsets[-1], dtype=np.float32) for layer in layers}
        self.where = torch.empty(0)
        self.target = np.empty(0, dtype=np.int64)

    def expect(self, batch: Sequence[int], where: Tensor) -> None:
        """Announce the items of the next pass and their kept tokens [batch, time]."""
        offsets = self.items.offsets
        self.where = where
        self.target = np.concatenate([np.arange(offsets[at], offsets[at + 1]) for at in batch])

    def receive(self, layer: int, hidden: Tensor, _keep: Tensor) -> None:
        """Store the output of one block."""
        if hidden.dtype == torch.float16:
            raise InputError(
                "model.dtype: float16 overflows in the residual stream. Use float32 or bfloat16."
            )
        on_device = hidden[self.where.to(hidden.device)].float()
        norms = torch.linalg.vector_norm(on_device, dim=1).cpu().numpy()
        chosen = on_device.cpu().numpy()
        if not np.isfinite(norms).all():
            self._refuse(layer, int(self.target[np.flatnonzero(~np.isfinite(norms))[0]]))
        if layer not in self.files:
            path = self.directory / f"layer{layer}.safetensors"
            self.files[layer] = create_rows(path, int(self.items.offsets[-1]), chosen.shape[1])
        self.files[layer][self.target] = chosen
        self.norms[layer][self.target] = norms

    def _refuse(self, layer: int, row: int) -> None:
        item = int(np.searchsorted(self.items.offsets, row, side="right") - 1)
        position = int(self.items.kept[item][row - self.items.offsets[item]])
        raise InputError(
            f"layer {layer}, example {self.names[item]}, token {position}: the activation is not "
            "finite. Check the model's weights and dtype."
        )


def _stream(model: nn.Module, decoder: nn.Module, items: _Items, writer: _Writer, token_budget: int) -> None:
    """Run the decoder over all items, shortest first, and hand its block outputs to the writer."""
    device = block_device(model.get_input_embeddings())  # type: ignore[operator]
    layers = list(writer.norms)
    was_training = model.training
    model.eval()
    try:
        for batch in length_buckets([len(ids) for ids in items.ids], token_budget):
            ids, mask, where = _right_padded(items, batch)
            writer.expect(batch, where)
            with torch.inference_mode(), capture(model, layers, receive=writer.receive, stop=True):
                decoder(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
    finally:
        model.train(was_training)
    for stored in writer.files.values():
        stored.flush()


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


def _right_padded(items: _Items, batch: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, attention mask and kept tokens of a batch, each [batch, time]."""
    width = max(len(items.ids[at]) for at in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    mask = torch.zeros(len(batch), width, dtype=torch.long)
    where = torch.zeros(len(batch), width, dtype=torch.bool)
    for row, at in enumerate(batch):
        length = len(items.ids[at])
        ids[row, :length] = torch.tensor(items.ids[at])
        mask[row, :length] = 1
        where[row, torch.from_numpy(items.kept[at])] = True
    return ids, mask, where


def _sentence_means(
    directory: Path, layer: int, keep: np.ndarray, items: _Items, rows: pd.DataFrame
) -> Tensor:
    """Mean of each item's kept rows, [items, width]."""
    stored = open_rows(directory / f"layer{layer}.safetensors")
    means = torch.empty(len(items.ids), stored.shape[1])
    for start, end in _item_chunks(items.offsets):
        first, last = items.offsets[start], items.offsets[end]
        kept = np.flatnonzero(keep[first:last])
        counts = np.add.reduceat(keep[first:last], items.offsets[start:end] - first, dtype=np.int64)
        if not counts.all():
            lost = rows["example_id"].iloc[start + int(np.flatnonzero(counts == 0)[0])]
            raise InputError(
                f"example {lost}: every token is a sink at layer {layer}. Raise activations.sink_factor."
            )
        # Sums over bags of rows: NumPy's reduction down columns is several times slower.
        starts = torch.from_numpy(np.concatenate([[0], np.cumsum(counts[:-1])]))
        chunk = torch.from_numpy(np.array(stored[first:last]))
        means[start:end] = embedding_bag(torch.from_numpy(kept), chunk, starts, mode="mean")
    return means


def _item_chunks(offsets: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of whole items with about `CHUNK` rows each."""
    start = 0
    while start < len(offsets) - 1:
        end = int(np.searchsorted(offsets, offsets[start] + CHUNK, side="right")) - 1
        end = max(end, start + 1)
        yield start, end
        start = end


def _row_table(items: _Items, keep: np.ndarray) -> dict[str, Tensor]:
    counts = np.diff(items.offsets)
    lengths = np.array([len(ids) for ids in items.ids])
    tokens = [np.array(ids)[kept] for ids, kept in zip(items.ids, items.kept, strict=True)]

    def column(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.int32))

    return {
        "item": column(np.repeat(np.arange(len(counts)), counts)),
        "position": column(np.concatenate(items.kept)),
        "token": column(np.concatenate(tokens)),
        "length": column(np.repeat(lengths, counts)),
        "keep": torch.from_numpy(keep),
    }


def _item_table(rows: pd.DataFrame, items: _Items) -> pd.DataFrame:
    table = rows[[name for name in ITEM_COLUMNS if name in rows]].reset_index(drop=True)
    table["tokens"] = np.diff(items.offsets)
    return table


def _report(
    rows: pd.DataFrame,
    items: _Items,
    layers: list[int],
    norms: Mapping[int, np.ndarray],
    keep: np.ndarray,
    options: ExtractionOptions,
) -> dict[str, Any]:
    return {
        "layers": layers,
        "hook_point": HOOK_POINT,
        "dtype": "float32",
        "items": len(items.ids),
        "rows": int(items.offsets[-1]),
        "dropped": {
            **items.dropped,
            "sink": {str(layer): int((~keep[at]).sum()) for at, layer in enumerate(layers)},
        },
        "sink_factor": options.sink_factor,
        "mean_norm": {str(layer): float(norms[layer].mean()) for layer in layers},
        "median_norm": {str(layer): float(np.median(norms[layer])) for layer in layers},
        "item_hash": stable_hash(rows["example_id"].tolist()),
        "identity": dict(options.identity),
    }
