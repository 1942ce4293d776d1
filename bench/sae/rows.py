"""Synthetic activations for benchmarks: sparse sums of unevenly frequent directions, noise, an offset."""

from __future__ import annotations

import numpy as np

ATOMS_PER_DIMENSION = 4
ACTIVE = 24
NOISE = 0.15
"""Standard deviation of the noise in each dimension, in units of a typical coefficient."""


def activations(rows: int, width: int, *, seed: int) -> np.ndarray:
    """Rows [rows, width] float32 with mean norm sqrt(width); another seed gives other rows, same atoms.

    Directions have frequencies that fall as 1 / rank^0.7, as features of text do; coefficients are
    positive.
    """
    count = ATOMS_PER_DIMENSION * width
    fixed = np.random.default_rng(7)
    atoms = fixed.standard_normal((count, width), dtype=np.float32)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    offset = 2 * fixed.standard_normal(width, dtype=np.float32) / np.sqrt(width)
    weights = 1 / np.arange(1, count + 1) ** 0.7
    shares = np.cumsum(weights / weights.sum())
    rng = np.random.default_rng(seed)
    out = np.empty((rows, width), np.float32)
    for start in range(0, rows, 4096):
        size = min(4096, rows - start)
        drawn = np.minimum(np.searchsorted(shares, rng.random((size, ACTIVE))), count - 1)
        codes = np.zeros((size, count), np.float32)
        np.put_along_axis(codes, drawn, rng.gamma(4, 0.25, drawn.shape).astype(np.float32), 1)
        noise = rng.standard_normal((size, width), dtype=np.float32) * (NOISE / np.sqrt(width))
        out[start : start + size] = codes @ atoms + offset + noise
    scale = np.sqrt(width) / np.linalg.norm(out[:4096], axis=1).mean()
    return out * np.float32(scale)
