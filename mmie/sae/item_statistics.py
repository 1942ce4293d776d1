"""What every latent does on the items of a language, in memory that does not grow with the items.

Statistics are taken per item first and then over items, so that long items do not count more. Rows come
item by item, so only the codes of the item that is not over yet are kept beside the running sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmie.activations.storage import ActivationStore
from mmie.errors import InputError
from mmie.io import seed_from
from mmie.sae.autoencoder import SparseAutoencoder

BATCH = 4096
HALVES = 2


@dataclass(frozen=True)
class Moments:
    """Mean and spread over items of their mean codes."""

    mean: NDArray[np.float64]
    """[latents]."""
    variance: NDArray[np.float64]
    """With items - 1 as divisor, [latents]; NaN for fewer than two items."""


@dataclass(frozen=True)
class LatentStatistics(Moments):
    """What the latents do on the items of one language; an item's mean code is over its tokens."""

    rate: NDArray[np.float64]
    """Mean over items of the share of tokens where a latent fires, [latents]."""
    power: NDArray[np.float64]
    """Mean over items of the mean squared code over tokens, [latents]."""
    halves: tuple[Moments, ...] = ()
    """Of two random halves of the items; empty where none were drawn."""


@torch.no_grad()
def latent_statistics(
    sae: SparseAutoencoder, store: ActivationStore, *, seed: int = 0
) -> dict[str, LatentStatistics]:
    """Item-level statistics of every latent, by language; one pass over the store.

    Args:
        sae: the autoencoder; its own encoder gives the codes.
        store: rows of its layer.
        seed: of the halves.
    """
    return {language: _of_language(sae, store, language, seed) for language in store.languages}


def _of_language(
    sae: SparseAutoencoder, store: ActivationStore, language: str, seed: int
) -> LatentStatistics:
    collected = ItemStatistics(sae.latents, _drawn_halves(store.items_of(language), language, seed))
    for x, item in store.batches(language, BATCH):
        collected.add(*sae.encode_stored(x), torch.from_numpy(item).long())
    return collected.result()


def _drawn_halves(items: NDArray[np.int64], language: str, seed: int) -> Tensor:
    """Half 0 or 1 of each item, by its number; as many in either, give or take one."""
    order = np.random.default_rng(seed_from("item halves", seed, language)).permutation(len(items))
    half = torch.zeros(int(items.max()) + 1, dtype=torch.int8)
    half[torch.from_numpy(items[order[1::HALVES]])] = 1
    return half


class ItemStatistics:
    """Running sums over items, from rows that come item by item.

    Means and squared deviations over items are merged as in Chan et al. 1983, so the size of the batches
    does not matter beyond rounding.

    Args:
        latents: number of latents.
        halves: half 0 or 1 of each item, by its number; None: no halves.
    """

    def __init__(self, latents: int, halves: Tensor | None = None) -> None:
        self._halves = halves
        self._parts = [_Running(latents) for _ in range(1 if halves is None else HALVES)]
        self._sums = torch.zeros(3, latents, dtype=torch.float64)
        self._over: set[int] = set()
        self._open: _Codes | None = None

    def add(self, values: Tensor, indices: Tensor, item: Tensor) -> None:
        """Add the sparse codes [rows, n] of rows that belong to `item` [rows].

        Raises:
            InputError: rows of an item that was over already.
        """
        if len(item):
            codes = _Codes.of_rows(values, indices, item).after(self._open)
            whole, self._open = codes.split()
            self._merge(whole)

    def result(self) -> LatentStatistics:
        """Means over the tokens of each item that occurred, and over items."""
        if self._open is not None:
            self._merge(self._open)
            self._open = None
        mean, rate, power = (self._sums / max(1, len(self._over))).numpy()
        whole = self._parts[0]
        for part in self._parts[1:]:
            whole = whole.joined(part)
        return LatentStatistics(
            mean=mean,
            variance=whole.moments().variance,
            rate=rate,
            power=power,
            halves=tuple(part.moments() for part in self._parts) if self._halves is not None else (),
        )

    def _merge(self, codes: _Codes) -> None:
        names = codes.names.tolist()
        again = self._over.intersection(names)
        if again or len(set(names)) < len(names):
            raise InputError(
                f"item {min(again or names)}: its rows are not next to each other. Extract the "
                "activations again."
            )
        self._over.update(names)
        share = codes.value / codes.tokens[codes.place]
        fired = 1 / codes.tokens[codes.place]
        for row, added in enumerate((share, fired, share * codes.value)):
            self._sums[row].index_add_(0, codes.latent, added)
        place, latent, mean = codes.means(self._sums.shape[1])
        for at, part in enumerate(self._parts):
            mine = torch.ones(len(names), dtype=torch.bool)
            if self._halves is not None:
                mine = self._halves[codes.names] == at
            of_mine = mine[place]
            part.add(latent[of_mine], mean[of_mine], int(mine.sum()))


@dataclass
class _Codes:
    """Codes above 0 of the rows of some items, one entry a row and firing latent."""

    names: Tensor
    """Number of each item, [items]."""
    tokens: Tensor
    """Rows of each item, [items] float64."""
    place: Tensor
    """Whose entry it is, as a place in `names`, [entries]."""
    latent: Tensor
    """[entries]."""
    value: Tensor
    """[entries] float64."""

    @classmethod
    def of_rows(cls, values: Tensor, indices: Tensor, item: Tensor) -> _Codes:
        names, place, tokens = torch.unique_consecutive(item, return_inverse=True, return_counts=True)
        fires = values > 0
        entries = place[:, None].expand_as(indices)[fires]
        return cls(names, tokens.double(), entries, indices[fires], values[fires].double())

    def after(self, open_item: _Codes | None) -> _Codes:
        """With the rows before these: of the first item here, or of one that is over."""
        if open_item is None:
            return self
        same = int(open_item.names[0] == self.names[0])
        tokens = self.tokens.clone()
        tokens[0] += same * open_item.tokens[0]
        return _Codes(
            torch.cat([open_item.names[same:], self.names]),
            torch.cat([open_item.tokens[same:], tokens]),
            torch.cat([open_item.place, self.place + 1 - same]),
            torch.cat([open_item.latent, self.latent]),
            torch.cat([open_item.value, self.value]),
        )

    def split(self) -> tuple[_Codes, _Codes]:
        """All items but the last, and the last, which may go on."""
        last = self.place == len(self.names) - 1
        return (
            _Codes(
                self.names[:-1], self.tokens[:-1], self.place[~last], self.latent[~last], self.value[~last]
            ),
            _Codes(
                self.names[-1:],
                self.tokens[-1:],
                torch.zeros_like(self.place[last]),
                self.latent[last],
                self.value[last],
            ),
        )

    def means(self, latents: int) -> tuple[Tensor, Tensor, Tensor]:
        """Place of the item, latent and mean code over the item's tokens, where it is not 0."""
        key, entry = torch.unique(self.place * latents + self.latent, return_inverse=True)
        total = torch.zeros(len(key), dtype=torch.float64).index_add_(0, entry, self.value)
        place = key // latents
        return place, key % latents, total / self.tokens[place]


class _Running:
    """Number of items, mean and sum of squared deviations of their mean codes, by latent."""

    def __init__(self, latents: int) -> None:
        self.items = 0
        self.mean = torch.zeros(latents, dtype=torch.float64)
        self.squares = torch.zeros(latents, dtype=torch.float64)

    def add(self, latent: Tensor, mean: Tensor, items: int) -> None:
        """Add some items, given where their mean codes are not 0."""
        if not items:
            return
        new = _Running(len(self.mean))
        new.items = items
        new.mean.index_add_(0, latent, mean / items)
        new.squares.index_add_(0, latent, (mean - new.mean[latent]).square())
        zeros = items - torch.bincount(latent, minlength=len(self.mean))
        new.squares += zeros * new.mean.square()
        joined = self.joined(new)
        self.items, self.mean, self.squares = joined.items, joined.mean, joined.squares

    def joined(self, other: _Running) -> _Running:
        """Of the items of both."""
        both = _Running(len(self.mean))
        both.items = self.items + other.items
        if both.items:
            shift = other.mean - self.mean
            both.mean = self.mean + shift * (other.items / both.items)
            apart = shift.square() * (self.items * other.items / both.items)
            both.squares = self.squares + other.squares + apart
        return both

    def moments(self) -> Moments:
        divisor = self.items - 1 if self.items > 1 else float("nan")
        return Moments(self.mean.numpy(), (self.squares / divisor).numpy())
