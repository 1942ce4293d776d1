"""What the prompts of a set are made of: an attack on a language that never uses it is no attack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING

from mmie.errors import InputError
from mmie.language.scripts import script_shares

if TYPE_CHECKING:
    import pandas as pd


def composition(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Share of the prompts of each kind that hold letters of each script: kind -> script -> share."""
    shares: dict[str, dict[str, float]] = {}
    for kind, group in rows.groupby("kind", sort=True):
        counts: Counter[str] = Counter()
        for prompt in group["prompt"]:
            counts.update(script_shares(prompt).keys())
        shares[str(kind)] = {script: counts[script] / len(group) for script in sorted(counts)}
    return shares


def forget_share(prompts: Collection[str], script: str) -> float:
    """Share of prompts with letters of the forget language's script.

    Raises:
        InputError: no prompts; the share of nothing is undefined.
    """
    if not prompts:
        raise InputError("the composition of no prompts is undefined. Check the filters before this one.")
    return sum(script in script_shares(prompt) for prompt in prompts) / len(prompts)
