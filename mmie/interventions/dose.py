"""Dose and response: one fitted arm at several strengths, on the same prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mmie.errors import InputError
from mmie.interventions.interface import Intervention

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

STRENGTHS = (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
"""Shares of the configured strength: 0 must be the base, a negative one the opposite of forgetting."""


def dose_response(
    model: nn.Module,
    arm: Intervention,
    score: Callable[[nn.Module], pd.DataFrame],
    *,
    shares: Sequence[float] = STRENGTHS,
) -> pd.DataFrame:
    """Scores of one arm at shares of its own strength, and of the base beside them.

    Args:
        model: the base model.
        arm: fitted, of a kind with a strength.
        score: (model) -> one row an item.
        shares: of the configured strength; 0 is among them.

    Returns:
        The rows of `score` for every share, with `share` and `strength` in front; the base has NaN.

    Raises:
        InputError: the kind has no strength, 0 is not among the shares, or strength 0 is not the base.
    """
    import pandas as pd

    if 0.0 not in shares:
        raise InputError("dose: share 0 is missing. Without it nothing says that the arm can be off.")
    arm.at_strength(0.0)  # says so where the kind has no strength
    full = float(arm.options()["strength"])
    base = score(model)
    tables = [base.assign(share=float("nan"), strength=float("nan"))]
    for share in shares:
        with arm.at_strength(share * full).applied(model) as changed:
            table = score(changed)
        if share == 0 and not table.equals(base):
            raise InputError(f"arm of kind {arm.kind!r}: strength 0 is not the base. Mend the kind.")
        tables.append(table.assign(share=float(share), strength=share * full))
    joined = pd.concat(tables, ignore_index=True)
    front = ["share", "strength"]
    return joined[front + [name for name in joined.columns if name not in front]]
