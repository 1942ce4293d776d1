"""A loss that is no number stops the run and names its items; it is never replaced by zero."""

from __future__ import annotations

import torch
from torch import Tensor


class TrainingDiverged(RuntimeError):
    """A loss or gradient is not finite; the message names step, term and items."""


def require_finite(values: Tensor, keys: list[str], what: str) -> None:
    """Raise unless every item's value is finite.

    Args:
        values: [batch].
        keys: name of each item.
        what: names the step and the term.

    Raises:
        TrainingDiverged: names the items.
    """
    bad = torch.nonzero(~torch.isfinite(values.detach())).flatten().tolist()
    if bad:
        named = ", ".join(keys[row] for row in bad[:8])
        raise TrainingDiverged(
            f"{what}: not finite for {named}. Lower training.learning_rate, or inspect these rows."
        )
