"""Where a latent fires most strongly, with the text around it: what a reader judges a feature by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mmie.activations.storage import ActivationStore
from mmie.io import read_safetensors
from mmie.sae.autoencoder import SparseAutoencoder

BATCH = 4096
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
COLUMNS = ("latent", "rank", "code", "language", "example_id", "before", "token", "after")


@torch.no_grad()
def strongest_contexts(
    sae: SparseAutoencoder,
    store: ActivationStore,
    root: str | Path,
    tokenizer: Any,
    latents: Sequence[int],
    *,
    split: str = "fit",
    count: int = 5,
    reach: int = 12,
) -> pd.DataFrame:
    """The `count` tokens where each latent fires most, at most one an item.

    Codes are read batch by batch, so memory does not grow with the rows.

    Args:
        sae: the layer's autoencoder.
        store: its rows, of `split`.
        root: directory with one directory a language, where the store was read from.
        tokenizer: decodes the tokens.
        latents: which.
        split: of the store.
        count: contexts of a latent.
        reach: tokens shown before and after.

    Returns:
        One row a context: `latent`, `rank` (0 is the strongest), `code`, `language`, `example_id`,
        `before`, `token`, `after`. Latents that fire on fewer items have fewer rows.
    """
    found: list[pd.DataFrame] = []
    for language in store.languages if latents else ():
        text = _Text(Path(root) / language, store.layer, split)
        items = store.items[store.languages.index(language)]
        strongest = _strongest(sae, store, language, latents, count)
        for latent, best in zip(latents, strongest, strict=True):
            for code, item, row in zip(best.code, best.item, best.row, strict=True):
                before, token, after = text.around(int(row), reach, tokenizer)
                example = items["example_id"].iloc[int(item)]
                entry = (latent, 0, float(code), language, example, before, token, after)
                found.append(pd.DataFrame([entry], columns=list(COLUMNS)))
    if not found:
        return pd.DataFrame(columns=list(COLUMNS)).astype({"latent": int, "rank": int, "code": float})
    table = pd.concat(found, ignore_index=True)
    table = table.sort_values(["latent", "code", "example_id"], ascending=[True, False, True])
    table["rank"] = table.groupby("latent").cumcount()
    return table[table["rank"] < count].reset_index(drop=True)


class _Text:
    """Tokens of the stored rows of one language, kept and dropped alike."""

    def __init__(self, directory: Path, layer: int, split: str) -> None:
        from mmie.io import read_json, read_parquet

        rows = read_safetensors(directory / "rows.safetensors")
        layers = read_json(directory / "extraction.json")["layers"]
        in_split = (read_parquet(directory / "items.parquet")["split"] == split).to_numpy()
        self._items, self._tokens = rows["item"].numpy(), rows["token"].numpy()
        keep = rows["keep"].numpy()[layers.index(layer)] & in_split[self._items]
        self._places = np.flatnonzero(keep)

    def around(self, row: int, reach: int, tokenizer: Any) -> tuple[str, str, str]:
        """Text before a row's token, the token, and the text after it, within its item."""
        place = int(self._places[row])
        low, high = np.searchsorted(self._items, [self._items[place], self._items[place] + 1])
        start, stop = max(low, place - reach), min(high, place + 1 + reach)
        return _parts(self._tokens[start:stop].tolist(), place - start, tokenizer)


def _parts(ids: list[int], at: int, tokenizer: Any) -> tuple[str, str, str]:
    """Text before token `at`, the token, and the text after it."""
    before, through, whole = (tokenizer.decode(ids[:end]) for end in (at, at + 1, len(ids)))
    return (
        before,
        _continuation(before, through, tokenizer.decode(ids[at : at + 1])),
        _continuation(through, whole, tokenizer.decode(ids[at + 1 :])),
    )


def _continuation(text: str, longer: str, alone: str) -> str:
    """What `longer` adds to `text`, with the space that decoding it alone loses."""
    # Half a character at the end of `text` may decode to the same sign as two thirds of one.
    whole = not text.endswith(REPLACEMENT)
    return longer[len(text) :] if whole and longer.startswith(text) else alone


@dataclass(frozen=True)
class _Rows:
    """Rows of a language where a latent fires, as parallel arrays [rows]."""

    code: np.ndarray
    item: np.ndarray
    row: np.ndarray

    def and_later(self, later: _Rows) -> _Rows:
        return _Rows(
            np.concatenate([self.code, later.code]),
            np.concatenate([self.item, later.item]),
            np.concatenate([self.row, later.row]),
        )

    def strongest(self, count: int) -> _Rows:
        """The largest codes, the first of each item, ties to the lower row."""
        order = np.lexsort((self.row, -self.code))
        _, first = np.unique(self.item[order], return_index=True)
        chosen = order[np.sort(first)[:count]]
        return _Rows(self.code[chosen], self.item[chosen], self.row[chosen])


def _strongest(
    sae: SparseAutoencoder, store: ActivationStore, language: str, latents: Sequence[int], count: int
) -> list[_Rows]:
    """The strongest rows of each latent, the strongest first; only the best so far are kept in memory."""
    wanted = torch.tensor(list(latents))
    nothing = _Rows(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64))
    best = [nothing] * len(latents)
    start = 0
    for x, item in store.batches(language, BATCH):
        codes = sae.codes_of(x.to(sae.b_dec.device), wanted).cpu().numpy()
        for at in range(len(latents)):
            fires = np.flatnonzero(codes[:, at] > 0)
            new = _Rows(codes[fires, at], item[fires].astype(np.int64), start + fires)
            best[at] = best[at].and_later(new).strongest(count)
        start += len(x)
    return best
