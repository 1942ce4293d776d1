"""Removal of the intervention: what an adversary with the files gets by leaving one of them out."""

from __future__ import annotations

import pandas as pd
from torch import nn

from mmie.attacks.scoring import Score, require_rows, scored
from mmie.interventions.interface import Intervention

REMOVED = "removed"
NOT_REMOVABLE = "not removable"


def detach(model: nn.Module, intervention: Intervention, rows: pd.DataFrame, *, score: Score) -> pd.DataFrame:
    """Score an arm after its hooks, adapter or prompt were taken off.

    What can be taken off leaves the base model, always: the table says so with numbers, and no gate
    may read it. An intervention that replaced the weights cannot be taken off; it is scored as it is.

    Args:
        model: the base model.
        intervention: fitted to it.
        rows: TEST forget rows.
        score: scores a model on rows.

    Returns:
        The table of `mmie.attacks.scoring.scored`; `variant` is "removed" or "not removable".
    """
    require_rows(rows, "detach")
    before = _places(model)
    with intervention.applied(model) as changed:
        if _places(model) != before:
            return scored(changed, rows, score, variant=NOT_REMOVABLE)
    return scored(model, rows, score, variant=REMOVED)


def _places(model: nn.Module) -> dict[int, int]:
    """Where each parameter of the base lies: an exchanged weight lies elsewhere."""
    return {id(value): value.data_ptr() for name, value in model.named_parameters() if ".lora_" not in name}
