"""What an analysis may choose, all fixed before TEST is read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmie.errors import InputError
from mmie.statistics.bootstrap import Resampled, Resampling, Weight, draw, draw_seeds
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
        attacks: attacks that a gate with `cell: attacks` reads, one test each and language.
        removals: attacks that take the intervention off; they always restore the base, so no gate
            reads them.
        permuted_labels: random swaps of arm and base in the check of the whole procedure.
        matched_divergence: largest ratio of two arms' divergences at which they count as equal.
        written_forms: written forms that an arm was fitted on, where not on all of them.
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
    attacks: tuple[str, ...] = ()
    removals: tuple[str, ...] = ("detach",)
    permuted_labels: int = 200
    matched_divergence: float = 1.25
    written_forms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    attack_at: Literal["last", "area"] = "last"
    language_names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        if self.headroom < 1.0:
            raise InputError(f"statistics.headroom: {self.headroom} is below 1. Use 1 or more.")
        if self.permuted_labels < 1:
            raise InputError(f"statistics.permuted_labels: {self.permuted_labels}. Use 1 or more, 200 say.")
        # One order, whatever the order in the configuration.
        object.__setattr__(self, "attacks", tuple(sorted(set(self.attacks))))

    @classmethod
    def from_settings(
        cls, experiment: str, settings: Mapping[str, Any], parts: Mapping[str, Any], attacks: Sequence[str]
    ) -> Options:
        """Options of a configured experiment.

        Args:
            experiment: its name.
            settings: the section `statistics` of the configuration.
            parts: arms by the part they play in calibration, by attribute.
            attacks: names of the configured attacks.
        """
        return cls(
            experiment=experiment,
            alpha=settings["alpha"],
            n_resamples=settings["resamples"],
            weight=settings["weight"],
            reset_margins=settings["calibrate_margins"],
            headroom=settings["headroom"],
            permuted_labels=settings["permuted_labels"],
            matched_divergence=settings["matched_divergence"],
            attacks=tuple(attacks),
            **parts,
        )

    @property
    def gating_attacks(self) -> tuple[str, ...]:
        """Attacks that gates read, sorted."""
        return tuple(attack for attack in self.attacks if attack not in self.removals)

    @property
    def calibration(self) -> tuple[str, ...]:
        """Arms that form their own copy of every family."""
        return (self.base, self.oracle, self.broken, *self.controls)


class Draws:
    """The draws of an analysis, made once an item table and shared by all arms and metrics.

    Parallel languages have the same item table and thereby the same draw.
    """

    def __init__(self, options: Options, *, keep: int = 12, keep_results: int = 96) -> None:
        self._options = options
        self._keep = keep
        self._keep_results = keep_results
        self._made: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Resampling] = {}
        self._cells: dict[int, Cell] = {}
        self._results: OrderedDict[tuple[object, ...], Resampled] = OrderedDict()

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

    def means(self, cell: Cell, arm: str, metric: str, valid: NDArray[np.bool_]) -> Resampled:
        """Resampled mean of one score of one arm over the valid items, one column.

        All scores that those items have come out of one matrix product, so that asking for the
        next one costs nothing.
        """
        scores = cell.scores[arm]
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(scores[valid]).all(axis=(0, 1)))
        names = [name for name, complete in zip(cell.metrics, finite, strict=True) if complete]
        if metric not in names:
            names = [metric]
        columns = [cell.metrics.index(name) for name in names]
        block = self.kept(
            ("mean", self.name(cell), arm, valid.tobytes(), tuple(columns)),
            lambda: self.of(cell).means(
                scores[:, :, columns], valid=valid, seed_shares=self.seeds(arm, scores.shape[1])
            ),
        )
        return block.column(names.index(metric))

    def name(self, cell: Cell) -> int:
        """What a cell is called in keys. It is kept, so that its address stays its own."""
        self._cells[id(cell)] = cell
        return id(cell)

    def kept(self, key: tuple[object, ...], make: Callable[[], Resampled]) -> Resampled:
        """A result by its key, made when it is asked for first; the least recently used one goes."""
        if key not in self._results:
            self._results[key] = make()
            while len(self._results) > self._keep_results:
                self._results.popitem(last=False)
        self._results.move_to_end(key)
        return self._results[key]

    def seeds(self, arm: str, n_seeds: int) -> NDArray[np.float64] | None:
        """Seed shares of an arm, the same in every cell; None for a single run."""
        return draw_seeds(n_seeds, self._options.n_resamples, names=(self._options.experiment, arm))
