"""Means and covariance of stored activations by class, in one pass and float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmie.activations.storage import ActivationStore, load_rows
from mmie.errors import InputError

BATCH = 8192


class Moments:
    """Counts, class means and the covariance of rows that come batch by batch.

    Merging follows Chan et al. 1983, so the order and the size of batches do not matter beyond rounding.

    Args:
        width: dimension of a row.
        classes: number of classes.
    """

    def __init__(self, width: int, classes: int) -> None:
        self.count = torch.zeros(classes, dtype=torch.float64)
        self.means = torch.zeros(classes, width, dtype=torch.float64)
        self._within = torch.zeros(width, width, dtype=torch.float64)

    def update(self, rows: Tensor, label: int) -> None:
        """Add rows [n, width] of one class."""
        if len(rows) == 0:
            return
        rows = rows.double()
        mean, count = rows.mean(0), len(rows)
        total = float(self.count[label]) + count
        shift = mean - self.means[label]
        centred = rows - mean
        self._within += centred.T @ centred
        self._within += torch.outer(shift, shift) * float(self.count[label]) * count / total
        self.means[label] += shift * count / total
        self.count[label] = total

    @property
    def rows(self) -> int:
        """Number of rows of all classes."""
        return int(self.count.sum())

    @property
    def mean(self) -> Tensor:
        """Mean of all rows, [width]."""
        return self.count @ self.means / self.count.sum()

    @property
    def covariance(self) -> Tensor:
        """Covariance of all rows, divided by their number, [width, width]."""
        spread = self.means - self.mean
        return (self._within + spread.T @ (self.count[:, None] * spread)) / self.count.sum()

    @property
    def cross_covariance(self) -> Tensor:
        """Covariance of the rows with the one-hot class, [width, classes]."""
        return ((self.means - self.mean) * (self.count / self.count.sum())[:, None]).T


@dataclass(frozen=True)
class Labelled:
    """Stored rows of several languages and the class of each item."""

    store: ActivationStore
    label: dict[str, NDArray[np.int64]]
    """By language, the class of each item of the language; -1 for items that are left out."""
    classes: tuple[str, ...]

    def moments(self) -> Moments:
        """One pass over all rows.

        Raises:
            InputError: a class without rows.
        """
        moments = Moments(self.store.width, len(self.classes))
        for language in self.store.languages:
            for block, item in self.store.batches(language, BATCH):
                labels = self.label[language][item]
                for at in np.unique(labels[labels >= 0]):
                    moments.update(block[torch.from_numpy(labels == at)], int(at))
        if not bool((moments.count > 0).all()):
            empty = self.classes[int(moments.count.argmin())]
            raise InputError(f"activations: class {empty!r} has no rows. Check the languages and splits.")
        return moments


def label_languages(
    root: str | Path,
    layer: int,
    classes: dict[str, Sequence[str]],
    *,
    paired: bool = False,
    shuffle: np.random.Generator | None = None,
) -> Labelled:
    """FIT rows of a layer with a class for each language.

    Args:
        root: directory with one directory a language.
        layer: block whose output was stored.
        classes: languages of each class.
        paired: keep only items that every language has, so that classes say the same.
        shuffle: give items random classes in the same proportions; the control of shuffled labels.

    Raises:
        InputError: missing files, or no item that all languages have.
    """
    of_language = {language: at for at, name in enumerate(classes) for language in classes[name]}
    store = load_rows(root, layer, list(of_language), "fit")
    label = {
        language: np.where(items["split"] == "fit", of_language[language], -1)
        for language, items in zip(store.languages, store.items, strict=True)
    }
    if paired:
        shared = set.intersection(*(set(items["example_id"]) for items in store.items))
        if not shared:
            raise InputError(f"{root}: {', '.join(of_language)} share no item. Give parallel data.")
        for language, items in zip(store.languages, store.items, strict=True):
            label[language] = np.where(items["example_id"].isin(shared), label[language], -1)
    if shuffle is not None:
        label = _shuffled(label, shuffle)
    return Labelled(store, label, tuple(classes))


def _shuffled(label: dict[str, NDArray[np.int64]], rng: np.random.Generator) -> dict[str, NDArray[np.int64]]:
    """Permute the classes of the items that have one, across languages."""
    everything = np.concatenate([label[language] for language in label])
    used = everything >= 0
    everything[used] = rng.permutation(everything[used])
    ends = np.cumsum([len(label[language]) for language in label])[:-1]
    return dict(zip(label, np.split(everything, ends), strict=True))
