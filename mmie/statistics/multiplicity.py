"""False discovery rates within a family of tests. NaN never passes and never disturbs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmie.errors import InputError


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values q, in the order given; a NaN gets NaN and is not counted.

    Raises:
        InputError: a finite value outside [0, 1]; effects are not p-values.

    Source: Benjamini and Hochberg 1995.
    """
    return _adjusted(p_values, penalty=False)


def benjamini_yekutieli(p_values: ArrayLike) -> NDArray[np.float64]:
    """As `benjamini_hochberg`, valid under any dependence of the tests.

    Source: Benjamini and Yekutieli 2001.
    """
    return _adjusted(p_values, penalty=True)


def _adjusted(p_values: ArrayLike, *, penalty: bool) -> NDArray[np.float64]:
    p = np.asarray(p_values, dtype=np.float64).ravel()
    finite = np.isfinite(p)
    if np.isinf(p).any() or (p[finite] < 0).any() or (p[finite] > 1).any():
        raise InputError("p-values lie outside [0, 1]. Correct p-values only, never effects.")
    q = np.full(p.shape, np.nan)
    m = int(finite.sum())
    if m == 0:
        return q
    order = np.argsort(p[finite], kind="stable")
    ranks = np.arange(1, m + 1)
    factor = m * float(np.sum(1.0 / ranks)) if penalty else float(m)
    scaled = np.minimum(1.0, factor * p[finite][order] / ranks)
    stepped = np.minimum.accumulate(scaled[::-1])[::-1]
    adjusted = np.empty(m)
    adjusted[order] = stepped
    q[finite] = adjusted
    return q
