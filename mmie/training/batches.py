"""Rows as token ids, and the one cyclic iterator that draws batches from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmie.errors import InputError
from mmie.io import seed_from
from mmie.models.prompts import Batch, Encoded, collate, encode_all, padding_id

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Examples:
    """Rows of a set, encoded once. Parallel rows share an example id over languages."""

    example_ids: list[str]
    languages: list[str]
    encoded: list[Encoded]
    pad_id: int

    @classmethod
    def from_rows(
        cls, rows: pd.DataFrame, tokenizer: Any, *, longest: int | None = None, name: str = "rows"
    ) -> Examples:
        """Encode rows with columns example_id, language, prompt, answer.

        Args:
            rows: the set.
            tokenizer: of the model.
            longest: the model's limit in tokens.
            name: what errors call the set.

        Raises:
            InputError: no rows; a row without answer tokens or longer than the model can read.
        """
        if len(rows) == 0:
            raise InputError(f"{name}: the set is empty. Check its languages and splits.")
        encoded = encode_all(tokenizer, rows["prompt"].tolist(), rows["answer"].tolist())
        ids = [str(value) for value in rows["example_id"]]
        for example_id, item in zip(ids, encoded, strict=True):
            if item.answer_start >= len(item.ids):
                raise InputError(f"{name}: {example_id} has no answer token. Remove the row.")
            if longest is not None and len(item.ids) > longest:
                raise InputError(
                    f"{name}: {example_id} has {len(item.ids)} tokens, the model reads {longest}. "
                    "Shorten or remove the row."
                )
        languages = [str(value) for value in rows["language"]]
        return cls(ids, languages, encoded, padding_id(tokenizer))

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def answer_lengths(self) -> list[int]:
        """Answer tokens of each row, end-of-answer token included."""
        return [len(item.ids) - item.answer_start for item in self.encoded]

    def batch(self, indices: Sequence[int]) -> Batch:
        """Collate some rows, padded on the left so that answers end in the same column."""
        return collate([self.encoded[index] for index in indices], self.pad_id, side="left")

    def take(self, indices: Sequence[int]) -> Examples:
        """Some of the rows, in the given order."""
        return replace(
            self,
            example_ids=[self.example_ids[index] for index in indices],
            languages=[self.languages[index] for index in indices],
            encoded=[self.encoded[index] for index in indices],
        )

    def key(self, index: int) -> str:
        """Name of a row for people: example id and language."""
        return f"{self.example_ids[index]} ({self.languages[index]})"


class CyclicBatches(Iterator[list[int]]):
    """Batches of row numbers without end; every pass over the set has its own order.

    An epoch is as many draws as there are rows. Unweighted, it holds every row once; with weights, each
    language gets its share of the epoch and its rows still come in whole shuffled passes. The order
    is a function of seed and epoch alone, so `position` is all the state there is, and one batch is
    alive at a time.
    """

    def __init__(
        self,
        languages: Sequence[str],
        batch_size: int,
        *,
        seed: int,
        weights: Mapping[str, float] | None = None,
        position: int = 0,
    ) -> None:
        """Prepare to draw.

        Args:
            languages: language of each row, [rows].
            batch_size: rows in a batch.
            seed: of the order.
            weights: relative weight of each language that occurs; None for one draw a row.
            position: draws already served, to resume.

        Raises:
            InputError: no rows, or weights that do not fit the languages.
        """
        if len(languages) == 0 or batch_size < 1:
            raise InputError("a set to draw batches from is empty. Check its languages and splits.")
        self.batch_size = batch_size
        self.position = position
        self._seed = seed
        self._rows = {
            language: np.array([row for row, own in enumerate(languages) if own == language])
            for language in sorted(set(languages))
        }
        self._quotas = _quotas({name: len(rows) for name, rows in self._rows.items()}, weights)
        self._epoch_number = -1
        self._epoch = np.empty(0, dtype=np.int64)

    def __next__(self) -> list[int]:
        batch = self.rows(range(self.position, self.position + self.batch_size))
        self.position += self.batch_size
        return batch

    def rows(self, positions: range) -> list[int]:
        """Row numbers at some places of the endless sequence; leaves `position` as it is."""
        return [self._draw(position) for position in positions]

    def _draw(self, position: int) -> int:
        length = sum(self._quotas.values())
        number, offset = divmod(position, length)
        if number != self._epoch_number:
            self._epoch, self._epoch_number = self._order(number), number
        return int(self._epoch[offset])

    def _order(self, number: int) -> np.ndarray:
        """Rows of epoch `number`, shuffled."""
        parts = [
            _cyclic_slice(rows, number * quota, quota, seed_from(self._seed, language))
            for (language, rows), quota in zip(self._rows.items(), self._quotas.values(), strict=True)
        ]
        generator = np.random.default_rng(seed_from(self._seed, "epoch", number))
        return generator.permutation(np.concatenate(parts))


def _cyclic_slice(rows: np.ndarray, start: int, count: int, seed: int) -> np.ndarray:
    """Entries start .. start + count of the endless sequence of shuffled passes over `rows`."""
    first, last = start // len(rows), (start + count - 1) // len(rows)
    passes = [
        np.random.default_rng(seed_from(seed, number)).permutation(rows) for number in range(first, last + 1)
    ]
    offset = start - first * len(rows)
    return np.concatenate(passes)[offset : offset + count]


def _quotas(counts: dict[str, int], weights: Mapping[str, float] | None) -> dict[str, int]:
    """Draws of each language in an epoch: its rows, or its share by weight, never 0."""
    if weights is None:
        return counts
    missing = sorted(set(counts) - set(weights))
    if missing or any(weights[language] <= 0 for language in counts):
        raise InputError(
            f"language_weights: every language of the set needs a positive weight "
            f"(languages {sorted(counts)}, missing {missing}). Add them, or remove the weights."
        )
    total_weight = sum(weights[language] for language in counts)
    total_rows = sum(counts.values())
    return {language: max(1, round(total_rows * weights[language] / total_weight)) for language in counts}
