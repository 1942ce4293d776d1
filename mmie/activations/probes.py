"""How well a linear probe reads a language from sentence vectors, beyond what it can memorise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from mmie.activations.similarity import Matrix
from mmie.errors import InputError


@dataclass(frozen=True)
class ProbeTask:
    """Sentence vectors of several languages stacked, the language to read, and how to split them.

    All arrays have one entry a row of the vectors.
    """

    positive: NDArray[np.bool_]
    """True on rows of the language that the probe reads."""
    group: NDArray[np.int64]
    """Item or cluster; its rows of every language are on one side of each split."""
    kind: NDArray[np.int64]
    """What the control task labels at random: language and template, so that it can be memorised."""


@dataclass(frozen=True)
class ProbeResult:
    """Areas under the ROC curve on held-out items."""

    auc: float
    control_auc: float

    @property
    def selectivity(self) -> float:
        """What the probe reads beyond what a probe of its capacity can memorise."""
        return self.auc - self.control_auc


def probe(
    vectors: Matrix,
    task: ProbeTask,
    rng: np.random.Generator,
    *,
    folds: int = 4,
    controls: int = 5,
    ridge: float = 1.0,
) -> ProbeResult:
    """Cross-validated AUC of a ridge probe and of the same probe on control labels.

    The control task gives every kind of row one random label, in the proportions of the true task. A
    probe that scores as well on it shows its own capacity, not the representation's content.

    Args:
        vectors: [rows, width].
        task: labels, groups and kinds of the rows.
        rng: decides the folds and the control labels.
        folds: parts of the groups, each held out once.
        controls: control labellings; their mean AUC is reported.
        ridge: penalty on the weights of standardised columns.

    Raises:
        InputError: one class only, or fewer groups than folds.

    Source: Hewitt and Liang 2019 (arXiv 1909.03368).
    """
    groups = np.unique(task.group)
    if len(groups) < folds:
        raise InputError(f"probe: {len(groups)} items for {folds} folds. Give it more items.")
    if task.positive.all() or not task.positive.any():
        raise InputError("probe: all rows are of one language. Give it a language to compare with.")
    labels = np.column_stack([task.positive, *(_control_labels(task, rng) for _ in range(controls))]).astype(
        np.float64
    )
    fold_of_group = rng.permutation(np.arange(len(groups)) % folds)
    fold = fold_of_group[np.searchsorted(groups, task.group)]
    areas = []
    for held_out in range(folds):
        train, test = fold != held_out, fold == held_out
        scores = _ridge_scores(vectors[train], labels[train], vectors[test], ridge)
        areas.append([auc(scores[:, at], labels[test, at] > 0) for at in range(labels.shape[1])])
    means = np.nanmean(np.array(areas), axis=0)
    return ProbeResult(float(means[0]), float(means[1:].mean()) if controls else float("nan"))


def auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Probability that a positive row scores above a negative one, ties counted half.

    NaN when one class is empty.
    """
    count = int(positive.sum())
    others = len(positive) - count
    if count == 0 or others == 0:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))


def _control_labels(task: ProbeTask, rng: np.random.Generator) -> NDArray[np.bool_]:
    """One random label a kind, as many positive kinds as in the true task."""
    kinds, first = np.unique(task.kind, return_index=True)
    shuffled = rng.permutation(task.positive[first])
    return shuffled[np.searchsorted(kinds, task.kind)]


def _ridge_scores(train: Matrix, labels: Matrix, test: Matrix, ridge: float) -> Matrix:
    mean, scale = train.mean(axis=0), train.std(axis=0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    train, test = (train - mean) / scale, (test - mean) / scale
    penalty = ridge * np.eye(train.shape[1])
    weights = np.linalg.solve(train.T @ train + penalty, train.T @ (labels - labels.mean(axis=0)))
    return np.asarray(test @ weights)
