"""What every attack reports about an item."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import nn

from mmie.errors import InputError

Score = Callable[[nn.Module, pd.DataFrame], pd.DataFrame]
"""(model, rows) -> one row an item with at least `example_id` and the scores."""

Probability = Callable[[nn.Module, pd.DataFrame], Sequence[float]]
"""(model, rows) -> probability of the expected answer of each row."""

SCORES = ("leak", "correct", "answer_probability")


def scored(
    model: nn.Module, rows: pd.DataFrame, score: Score, *, step: int = 0, variant: str = ""
) -> pd.DataFrame:
    """Score the rows and keep what an attack reports, in the order of the rows.

    Returns:
        One row an item: step, variant, example_id, group, language, leak, correct, answer_probability.

    Raises:
        InputError: the scores lack a column or a row, or come in another order.
    """
    with torch.no_grad():
        table = score(model, rows)
    missing = sorted({"example_id", *SCORES} - set(table.columns))
    if missing or len(table) != len(rows):
        raise InputError(
            f"attack: {len(table)} scores for {len(rows)} rows, columns {missing} missing. "
            "The score function must return one row an item."
        )
    if table["example_id"].tolist() != rows["example_id"].tolist():
        raise InputError("attack: scores come in another order than the rows. Return them as given.")
    kept = rows[["example_id", "group", "language"]].reset_index(drop=True)
    kept.insert(0, "step", step)
    kept.insert(1, "variant", variant)
    return pd.concat([kept, table[list(SCORES)].reset_index(drop=True)], axis=1)


def require_rows(rows: pd.DataFrame, attack: str, split: str = "TEST") -> None:
    """Raise an InputError when an attack has nothing to score."""
    if rows.empty:
        raise InputError(f"{attack}: no row to score. Check the forget languages and their {split} split.")
