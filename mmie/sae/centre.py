"""Where the decoder bias starts: the mean of the rows or their geometric median."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 32_768
"""Rows that the geometric median is taken over."""


@torch.no_grad()
def geometric_median(x: Tensor, *, iterations: int = 100, tolerance: float = 1e-6) -> Tensor:
    """The point with the smallest summed distance to the rows (Weiszfeld's iteration), [width].

    Unlike the mean, it does not follow a few rows that lie far away.

    Args:
        x: [rows, width].
        iterations: at most so many.
        tolerance: stop when a step is shorter than this share of the median distance.
    """
    wide = x.double()
    point = wide.mean(0)
    for _ in range(iterations):
        distance = (wide - point).norm(dim=1)
        scale = float(distance.median())
        if scale == 0:
            break
        # A row at the point itself has an infinite weight; the floor keeps the step finite.
        weights = 1 / distance.clamp(min=1e-8 * scale)
        moved = (weights[:, None] * wide).sum(0) / weights.sum()
        step = float((moved - point).norm())
        point = moved
        if step < tolerance * scale:
            break
    return point.to(x.dtype)
