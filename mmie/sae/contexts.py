"""Where a latent fires most strongly, with the text around it: what a reader judges a feature by."""

from __future__ import annotations

from collections.abc import Sequence
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
    wanted = torch.tensor(list(latents))
    found: list[pd.DataFrame] = []
    for language in store.languages:
        codes = torch.cat([sae.codes_of(x, wanted) for x, _ in store.batches(language, BATCH)]).numpy()
        text = _Text(Path(root) / language, store.layer, split)
        items = store.items[store.languages.index(language)]
        for at, latent in enumerate(latents):
            for row in _strongest_rows(codes[:, at], text.item, count):
                before, token, after = text.around(row, reach, tokenizer)
                example = items["example_id"].iloc[int(text.item[row])]
                entry = (latent, 0, float(codes[row, at]), language, example, before, token, after)
                found.append(pd.DataFrame([entry], columns=list(COLUMNS)))
    if not found:
        return pd.DataFrame(columns=list(COLUMNS))
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
        self.item = self._items[self._places]
        """Item of each row of the store."""

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


def _strongest_rows(codes: np.ndarray, item: np.ndarray, count: int) -> list[int]:
    """Rows with the largest positive codes, the first of each item, ties to the lower row."""
    chosen: dict[int, int] = {}
    for row in np.argsort(-codes, kind="stable"):
        if codes[row] <= 0 or len(chosen) == count:
            break
        chosen.setdefault(int(item[row]), int(row))
    return list(chosen.values())
