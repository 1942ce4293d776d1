"""Principal angles between subspaces of the residual stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmie.activations.similarity import Matrix, centred
from mmie.errors import InputError


def principal_angles(x: Matrix, y: Matrix, rank: int) -> NDArray[np.float64]:
    """Angles between the `rank` main directions in which two sets of rows vary, in radians.

    Directions are those of the stream (right singular vectors), so rows need not correspond and may
    differ in number; angles between sample spaces would compare items instead.

    Args:
        x: rows of one language, [rows, width].
        y: rows of another, [any rows, width].
        rank: main directions of each.

    Returns:
        [rank], rising from 0 (shared direction) to pi / 2.

    Raises:
        InputError: other widths, or fewer directions than `rank`.

    Source: Björck and Golub 1973.
    """
    if x.shape[1] != y.shape[1]:
        raise InputError(f"principal angles: widths {x.shape[1]} and {y.shape[1]} differ. Use one layer.")
    bases = [_main_directions(rows, rank) for rows in (x, y)]
    cosines = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    # arccos loses small angles to rounding; the sine, from what the other space leaves over, does not.
    left_over = bases[1] - bases[0] @ (bases[0].T @ bases[1])
    sines = np.sort(np.linalg.svd(left_over, compute_uv=False))
    angles: NDArray[np.float64] = np.where(
        cosines**2 < 0.5, np.arccos(np.clip(cosines, -1, 1)), np.arcsin(np.clip(sines, 0, 1))
    )
    return angles


def _main_directions(rows: Matrix, rank: int) -> Matrix:
    """Orthonormal columns [width, rank]."""
    _, sizes, directions = np.linalg.svd(centred(rows), full_matrices=False)
    found = int((sizes > 1e-10 * max(float(sizes.max(initial=0)), 1e-300)).sum())
    if not 1 <= rank <= found:
        raise InputError(f"principal angles: rank {rank}, but the rows vary in {found} directions.")
    basis: Matrix = directions[:rank].T
    return basis
