"""What can be done to a direction of the residual stream: three operations, never mixed up.

`ablate` and `clamp` look at the component along the direction, `add` does not: with the direction
turned round, `ablate` (towards 0) does the same, `add` does the opposite, and `clamp` limits the other
side. `h - a (h.v) v` and `h + a (h.v) v` are both ablations of different strength, not two shifts.

All take `hidden` [..., width] and a unit `direction` [width], compute in float32 and return the type of
`hidden`.
"""

from __future__ import annotations

from torch import Tensor


def ablate(hidden: Tensor, direction: Tensor, *, mean: float = 0.0, strength: float = 1.0) -> Tensor:
    """h - strength (h.v - mean) v: at strength 1 every position has the component `mean`.

    Source: Arditi et al. 2024 (arXiv 2406.11717), who ablate towards 0.
    """
    excess = component(hidden, direction) - mean
    return hidden + _along(-strength * excess, direction, hidden)


def add(hidden: Tensor, direction: Tensor, amount: float) -> Tensor:
    """h + amount v, whatever h is."""
    return hidden + (amount * direction.float()).to(hidden.dtype)


def clamp(hidden: Tensor, direction: Tensor, ceiling: float, *, strength: float = 1.0) -> Tensor:
    """h - strength max(0, h.v - ceiling) v: components below the ceiling stay as they are.

    Source: the ablation of Wu et al. 2025 (arXiv 2501.17148), with a ceiling above 0.
    """
    excess = (component(hidden, direction) - ceiling).clamp(min=0)
    return hidden + _along(-strength * excess, direction, hidden)


def project(hidden: Tensor, left: Tensor, right: Tensor, mean: Tensor, *, strength: float = 1.0) -> Tensor:
    """h - strength L R (h - mean): a linear map of rank k acts on deviations from a stored mean.

    Args:
        hidden: [..., width].
        left: L, [width, k].
        right: R, [k, width].
        mean: [width]; a point at the mean stays where it is.
        strength: 1 for the full map.
    """
    deviation = hidden.float() - mean
    return hidden - (strength * (deviation @ right.T) @ left.T).to(hidden.dtype)


def component(hidden: Tensor, direction: Tensor) -> Tensor:
    """h.v, [...]."""
    return hidden.float() @ direction.float()


def _along(amount: Tensor, direction: Tensor, hidden: Tensor) -> Tensor:
    return (amount.unsqueeze(-1) * direction.float()).to(hidden.dtype)
