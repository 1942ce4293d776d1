"""What an analysis may choose, all fixed before TEST is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmie.errors import InputError
from mmie.statistics.bootstrap import Resampling, Weight, draw, draw_seeds
from mmie.statistics.cells import Cell
from mmie.statistics.intervals import check_alpha
from mmie.statistics.transfer import SMALLEST_DENOMINATOR


@dataclass(frozen=True)
class Options:
    """Choices of the analysis.

    Attributes:
        experiment: name; every random draw is seeded from it.
        alpha: level of intervals, tests and false discovery rate.
        n_resamples: bootstrap resamples, at least 1,000 for any interval.
        weight: whether clusters or items weigh equally.
        correction: "bh" (Benjamini-Hochberg) or "by" (Benjamini-Yekutieli).
        strict: test effects against the threshold instead of zero.
        max_dropped: share of items without a score from which a cell is not measured.
        smallest_denominator: least base score, or base - oracle, that a ratio is taken of.
        reset_margins: widen preservation margins to the oracle's own difference on DEV.
        headroom: factor on a margin that was widened.
        correlation: assumed correlation of differences within clusters, for power.
        base, oracle, reference, broken, controls: arms with a known verdict; `reference` is the
            oracle that scores are normalised by and has no verdict.
        trained_arms: arms that need `seed_floor` seeds for any claim.
        seed_floor: fewest seeds of a trained arm.
        attack_at: "last" scores an attack after its last step, "area" over log2(1 + step).
        language_names: words for language codes in sentences; CLDR's English names by default.
    """

    experiment: str = "experiment"
    alpha: float = 0.05
    n_resamples: int = 2000
    weight: Weight = "cluster"
    correction: Literal["bh", "by"] = "bh"
    strict: bool = False
    max_dropped: float = 0.05
    smallest_denominator: float = SMALLEST_DENOMINATOR
    reset_margins: bool = True
    headroom: float = 1.0
    correlation: float = 0.3
    base: str = "base"
    oracle: str = "oracle"
    reference: str = "oracle_reference"
    broken: str = "broken"
    controls: tuple[str, ...] = ("sae-random",)
    trained_arms: tuple[str, ...] = ()
    seed_floor: int = 3
    attack_at: Literal["last", "area"] = "last"
    language_names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        if self.headroom < 1.0:
            raise InputError(f"statistics.headroom: {self.headroom} is below 1. Use 1 or more.")

    @property
    def calibration(self) -> tuple[str, ...]:
        """Arms that form their own copy of every family."""
        return (self.base, self.oracle, self.broken, *self.controls)


class Draws:
    """The draws of an analysis, made once an item table and shared by all arms and metrics.

    Parallel languages have the same item table and thereby the same draw.
    """

    def __init__(self, options: Options, *, keep: int = 12) -> None:
        self._options = options
        self._keep = keep
        self._made: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Resampling] = {}

    def of(self, cell: Cell) -> Resampling:
        """The resampling of a cell's items."""
        key = (cell.name, cell.items, cell.clusters)
        if key not in self._made:
            if len(self._made) >= self._keep:
                del self._made[next(iter(self._made))]
            self._made[key] = draw(
                cell.clusters,
                cell.items,
                self._options.n_resamples,
                names=(self._options.experiment, cell.name),
                weight=self._options.weight,
            )
        return self._made[key]

    def seeds(self, arm: str, n_seeds: int) -> NDArray[np.float64] | None:
        """Seed shares of an arm, the same in every cell; None for a single run."""
        return draw_seeds(n_seeds, self._options.n_resamples, names=(self._options.experiment, arm))
