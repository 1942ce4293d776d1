"""Items as token ids, the tokens that become rows, and the sample that keeps them within a budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmie.errors import InputError
from mmie.io import seed_from
from mmie.models.prompts import encode_all

if TYPE_CHECKING:
    import pandas as pd

TOGETHER = 1024
"""Items that are tokenised at a time: as Python lists their ids take ten times as much."""


@dataclass(frozen=True)
class TokenItems:
    """Tokenised items, one after the other: five bytes a token."""

    ids: NDArray[np.int32]
    """Token ids of all items, [tokens]."""
    kept: NDArray[np.bool_]
    """Tokens that become rows, [tokens]."""
    starts: NDArray[np.int64]
    """First token of each item, and the end: [items + 1]."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """First row of each item, and the end: [items + 1]."""
        return np.concatenate([[0], np.cumsum(self.kept)])[self.starts]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each item, [items]."""
        return np.diff(self.starts)

    @property
    def dropped(self) -> dict[str, int]:
        """Tokens that become no row, by reason."""
        return {"first": len(self), "special": len(self.ids) - len(self) - int(self.offsets[-1])}

    def of(self, item: int) -> slice:
        """Tokens of one item."""
        return slice(int(self.starts[item]), int(self.starts[item + 1]))

    def only(self, chosen: NDArray[np.int64]) -> TokenItems:
        """Some of the items, in the order given."""
        tokens = np.concatenate([np.arange(self.starts[at], self.starts[at + 1]) for at in chosen])
        starts = np.concatenate([[0], np.cumsum(self.lengths[chosen])])
        return TokenItems(self.ids[tokens], self.kept[tokens], starts)

    def chunks(self, rows: int) -> Iterator[tuple[int, int]]:
        """Ranges of whole items with at most `rows` rows each, or of one item with more."""
        start = 0
        while start < len(self):
            end = int(np.searchsorted(self.offsets, self.offsets[start] + rows, side="right")) - 1
            end = max(end, start + 1)
            yield start, end
            start = end

    def columns(self, start: int, end: int) -> dict[str, NDArray[np.int32]]:
        """`item`, `position`, `token` and `length` of the rows of items `start` to `end`, each [rows]."""
        tokens = slice(int(self.starts[start]), int(self.starts[end]))
        kept, lengths = self.kept[tokens], self.lengths[start:end]
        item = np.repeat(np.arange(start, end), lengths)[kept]
        found = {
            "item": item,
            "position": np.flatnonzero(kept) + tokens.start - self.starts[item],
            "token": self.ids[tokens][kept],
            "length": self.lengths[item],
        }
        return {name: values.astype(np.int32) for name, values in found.items()}


def tokenise(tokenizer: Any, rows: pd.DataFrame) -> TokenItems:
    """Encode prompts with their answers and mark the tokens that become rows; no model is needed for it.

    Raises:
        InputError: an item none of whose tokens would become a row.
    """
    special = np.array(tokenizer.all_special_ids, dtype=np.int64)
    ids, kept, lengths = [], [], []
    for start in range(0, len(rows), TOGETHER):
        some = rows.iloc[start : start + TOGETHER]
        encoded = encode_all(tokenizer, some["prompt"].tolist(), some["answer"].tolist())
        lengths += [len(item.ids) for item in encoded]
        ids.append(np.concatenate([np.array(item.ids, dtype=np.int32) for item in encoded]))
        kept.append(~np.isin(ids[-1], special))
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    flags = np.concatenate(kept)
    flags[starts[:-1]] = False
    items = TokenItems(np.concatenate(ids), flags, starts)
    empty = np.flatnonzero(np.diff(items.offsets) == 0)
    if len(empty):
        raise InputError(
            f"example {rows['example_id'].iloc[empty[0]]}: no token left to read, since the first token and "
            "special tokens are left out. Remove the row, or give it more text."
        )
    return items


def sample_items(
    names: Sequence[str], splits: Sequence[str], sizes: NDArray[np.int64], max_tokens: int, seed: int = 0
) -> NDArray[np.int64]:
    """Whole items of at most `max_tokens` tokens together, every split in its share.

    Items are taken in an order that depends on the seed and their names alone, until the next one would
    go beyond the share of its split. So languages that translate one another keep the same items, as far
    as the one with the longest texts goes, and remain comparable item by item.

    Args:
        names: ids of the items, alike in all languages.
        splits: split of each item.
        sizes: tokens of each item, [items].
        max_tokens: tokens of the sample at most.
        seed: decides the order.

    Returns:
        Indices of the items, rising; all of them when they fit.

    Raises:
        InputError: a split of which no item fits into its share.
    """
    if sizes.sum() <= max_tokens:
        return np.arange(len(sizes))
    order = np.array(sorted(range(len(names)), key=lambda at: seed_from("activations", seed, names[at])))
    split_of = np.asarray(splits, dtype=object)
    chosen = []
    for split in sorted(set(splits)):
        members = order[split_of[order] == split]
        share = max_tokens * int(sizes[members].sum()) / int(sizes.sum())
        count = int(np.searchsorted(np.cumsum(sizes[members]), share, side="right"))
        if count == 0:
            raise InputError(
                f"activations.max_tokens: {max_tokens} leave {share:.0f} tokens for split {split!r}, not "
                f"enough for example {names[members[0]]} of {sizes[members[0]]}. Raise it."
            )
        chosen.append(members[:count])
    return np.sort(np.concatenate(chosen))
