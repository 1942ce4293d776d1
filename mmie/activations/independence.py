"""Are two sets of vectors dependent? A permutation test, and how much dependence it would have seen.

That a test does not reject is no evidence of independence unless it would have rejected a dependence
worth the name. So the verdict is one of three, and `independent` needs measured power.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmie.errors import InputError
from mmie.io import seed_from

Matrix = NDArray[np.float64]
FEWEST_ITEMS = 20


@dataclass(frozen=True)
class IndependenceOptions:
    """Sizes and thresholds of the test."""

    permutations: int = 499
    """Re-pairings N behind the p-value; the smallest p is 1 / (N + 1)."""
    alpha: float = 0.05
    """Level of the test."""
    effect: float = 0.5
    """Correlation of the planted dependence that must be seen before independence is claimed."""
    least_power: float = 0.8
    """Share of planted dependences that must be rejected."""
    power_draws: int = 50
    """Planted dependences behind the power."""
    seed: int = 0


@dataclass(frozen=True)
class Independence:
    """Result of the test."""

    statistic: float
    """Biased HSIC, at least 0."""
    p: float
    """(1 + re-pairings with at least this statistic) / (1 + N)."""
    power: float | None
    """Share of planted dependences that the test rejects; None where it already rejected the data."""
    verdict: str
    """dependent, independent, or undecided: neither seen nor would it have been."""
    widths: tuple[float, float]
    """Kernel widths of x and y: medians of the distances between their rows."""


def independence(x: Matrix, y: Matrix, options: IndependenceOptions | None = None) -> Independence:
    """Test whether rows of `x` and `y` are independent, and check the power before saying so.

    HSIC = tr(K H L H) / n^2 with Gaussian kernels exp(-d^2 / (2 w^2)), columns standardised, w the median
    distance between rows. A fixed width makes both kernels the identity in high dimension, and the test
    blind.

    Power: y is re-paired at random and mixed with a random projection of x to correlation `effect`; the
    share of such draws that are rejected is the power at this number of items and these widths' rule.

    Args:
        x, y: [items, width of x] and [items, width of y]; row i the same item; items exchangeable.
        options: sizes and thresholds.

    Raises:
        InputError: fewer than 20 items, rows that do not match, values that are not finite, or rows that
            are all alike.

    Source: Gretton et al. 2007, A kernel statistical test of independence; p-values: Phipson and Smyth
    2010.
    """
    options = options or IndependenceOptions()
    x, y = _checked(x, "x"), _checked(y, "y")
    if len(x) != len(y):
        raise InputError(f"independence: {len(x)} rows of x, {len(y)} of y. Give the same items in both.")
    rng = np.random.default_rng(seed_from("independence", options.seed))
    (first, width_x), (second, width_y) = _kernel(x), _kernel(y)
    statistic, p = _permuted(first, second, options.permutations, rng)
    if p <= options.alpha:
        return Independence(statistic, p, None, "dependent", (width_x, width_y))
    rejected = 0
    for _ in range(options.power_draws):
        planted = _planted(x, y, options.effect, rng)
        rejected += _permuted(first, _kernel(planted)[0], options.permutations, rng)[1] <= options.alpha
    power = rejected / options.power_draws
    verdict = "independent" if power >= options.least_power else "undecided"
    return Independence(statistic, p, power, verdict, (width_x, width_y))


def _checked(values: Matrix, name: str) -> Matrix:
    """Standardised columns, [items, width]; a vector is one column."""
    values = np.asarray(values, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if len(values) < FEWEST_ITEMS or not np.isfinite(values).all():
        raise InputError(
            f"independence: {name} has {len(values)} rows, or values that are not finite. "
            f"At least {FEWEST_ITEMS} finite rows are needed."
        )
    return _standardised(values)


def _standardised(values: Matrix) -> Matrix:
    values = values - values.mean(0)
    scale = values.std(0)
    return np.divide(values, scale, out=np.zeros_like(values), where=scale > 0)


def _kernel(values: Matrix) -> tuple[Matrix, float]:
    """Centred Gaussian kernel matrix [items, items], and its width."""
    squares = (values**2).sum(1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * values @ values.T, 0.0))
    width = float(np.median(distances[np.triu_indices(len(values), 1)]))
    if width == 0:
        raise InputError("independence: most rows are alike, so no kernel width can be chosen.")
    kernel = np.exp(-((distances / width) ** 2) / 2)
    return kernel - kernel.mean(0) - kernel.mean(1)[:, None] + kernel.mean(), width


def _permuted(
    first: Matrix, second: Matrix, permutations: int, rng: np.random.Generator
) -> tuple[float, float]:
    """HSIC of two centred kernels and its p-value over re-pairings of the items."""
    count = len(first)
    statistic = float((first * second).sum()) / count**2
    reached = 0
    for _ in range(permutations):
        order = rng.permutation(count)
        value = float((first * second[np.ix_(order, order)]).sum()) / count**2
        # Equal up to rounding counts as reached: a tie is no evidence.
        reached += value >= statistic - 1e-12 * abs(statistic)
    return statistic, (reached + 1) / (permutations + 1)


def _planted(x: Matrix, y: Matrix, effect: float, rng: np.random.Generator) -> Matrix:
    """`y` re-paired at random, each column correlated with a random direction of `x`."""
    noise = y[rng.permutation(len(y))]
    signal = _standardised(x @ rng.standard_normal((x.shape[1], y.shape[1])))
    return effect * signal + math.sqrt(1 - effect**2) * noise
