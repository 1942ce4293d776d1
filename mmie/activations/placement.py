"""Which layers may be chosen together: candidates, their smallest distance, and ways to fill it.

The selection and its controls (random, worst, middle) draw from the same placement, so that a control
differs from the selection in its layers alone, never in their number, distance or range.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmie.errors import InputError
from mmie.io import seed_from


@dataclass(frozen=True)
class SelectionRules:
    """Which layers may be chosen together."""

    exclude_first: int | None = None
    """Blocks at the bottom that are never chosen; None: two, or one in models below 8 blocks."""
    exclude_last: int | None = None
    """Blocks at the top that are never chosen; None: one, none in models below 4 blocks."""
    gap: int | None = None
    """Smallest distance of chosen layers; None: 2, or 1 where 2 leaves too few layers."""
    replace_unstable: bool = True
    """Take the middle layers when the ranking does not hold up on other halves of the items."""


@dataclass(frozen=True)
class Placement:
    """Where `count` layers of a model of `blocks` blocks may lie."""

    candidates: tuple[int, ...]
    """Layers that may be chosen, rising."""
    gap: int
    """Smallest distance of chosen layers."""
    count: int
    """How many are chosen."""
    blocks: int

    def open(self, chosen: Sequence[int]) -> list[int]:
        """Candidates that keep the distance to `chosen` and leave room for the rest."""
        return _open(self.candidates, chosen, self.count, self.gap)

    def first(self, order: Sequence[int]) -> list[int]:
        """The first layers of an order of candidates that keep the distance and leave room, rising."""
        chosen: list[int] = []
        while len(chosen) < self.count:
            open_ = set(_open(sorted(order), chosen, self.count, self.gap))
            chosen.append(next(layer for layer in order if layer in open_))
        return sorted(chosen)

    def middle(self) -> list[int]:
        """The layers nearest to the middle of the model; of equally near ones the lower."""
        return self.first(sorted(self.candidates, key=lambda layer: (abs(layer - self.blocks // 2), layer)))

    def random(self, seed: int, avoid: Sequence[int] = ()) -> list[int] | None:
        """A draw of layers other than `avoid`; None where the rules allow no other set.

        From the thirds of the depth in which `avoid` lies if that leaves more than one set; else from all
        candidates that are not in `avoid`; else from all candidates, as any set but `avoid` itself.
        """
        rng = np.random.default_rng(seed_from("random layers", seed))
        thirds = {3 * layer // self.blocks for layer in avoid}
        free = [layer for layer in self.candidates if layer not in avoid]
        alike = [layer for layer in free if 3 * layer // self.blocks in thirds]
        # A depth with one set would make every draw the same one.
        if avoid and arrangements(alike, self.count, self.gap) > 1:
            return self.first(_shuffled(alike, rng))
        if arrangements(free, self.count, self.gap):
            return self.first(_shuffled(free, rng))
        if arrangements(self.candidates, self.count, self.gap) < 2:
            return None
        drawn = sorted(avoid)
        while drawn == sorted(avoid):
            drawn = self.first(_shuffled(self.candidates, rng))
        return drawn


def placement(
    layers: Sequence[int], count: int, rules: SelectionRules | None = None, *, blocks: int | None = None
) -> tuple[Placement, list[str]]:
    """Where `count` of a model's layers may lie under the rules, and what was excluded or relaxed, in words.

    `layers` are those that were read; `blocks` is how many the model has, None where the last one was read.

    Raises:
        InputError: they do not fit.
    """
    rules, notes = rules or SelectionRules(), []
    blocks = max(layers) + 1 if blocks is None else blocks
    first, last = rules.exclude_first, rules.exclude_last
    if first is None:
        first = 2 if blocks >= 8 else int(blocks >= 4)
    if last is None:
        last = int(blocks >= 4)
    candidates = [layer for layer in sorted(layers) if first <= layer < blocks - last]
    if first or last:
        notes.append(f"first {first} and last {last} of {blocks} blocks are excluded")
    if len(layers) < blocks:
        notes.append(f"blocks that were read: {', '.join(map(str, sorted(layers)))}")
    gap = 2 if rules.gap is None else rules.gap
    if rules.gap is None and not arrangements(candidates, count, gap) and count <= len(candidates):
        gap = 1
        notes.append("gap between layers relaxed to 1: too few blocks for 2")
    if not arrangements(candidates, count, gap):
        raise InputError(
            f"layers.top: {count} layers at distance {gap} do not fit into blocks {candidates}. "
            "Choose fewer layers, or read more of them (activations.layers)."
        )
    return Placement(tuple(candidates), gap, count, blocks), notes


def arrangements(pool: Sequence[int], count: int, gap: int) -> int:
    """How many sets of `count` layers at the distance `gap` or more a rising pool holds."""
    ways = [1] * (len(pool) + 1)
    for _ in range(count):
        longer = [0] * (len(pool) + 1)
        for at in reversed(range(len(pool))):
            longer[at] = longer[at + 1] + ways[bisect_left(pool, pool[at] + max(gap, 1))]
        ways = longer
    return ways[0]


def _open(pool: Sequence[int], chosen: Sequence[int], count: int, gap: int) -> list[int]:
    free = [layer for layer in pool if layer not in chosen and _apart(layer, chosen, gap)]
    left = count - len(chosen) - 1
    return [
        layer
        for layer in free
        if arrangements([other for other in free if _apart(other, [layer], max(gap, 1))], left, gap)
    ]


def _apart(layer: int, others: Sequence[int], gap: int) -> bool:
    return all(abs(layer - other) >= gap for other in others)


def _shuffled(pool: Sequence[int], rng: np.random.Generator) -> list[int]:
    return [int(layer) for layer in rng.permutation(pool)]
