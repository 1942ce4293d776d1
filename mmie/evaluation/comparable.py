"""What makes two evaluations comparable: the same prompts, decoded alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmie.errors import InputError
from mmie.io import seed_from, stable_hash
from mmie.metrics.text import NORMALISATION

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Decoding:
    """How every arm is decoded: greedily, at most `max_new_tokens` tokens.

    `batch_size` says how many prompts run together; it is no part of the hash.
    """

    max_new_tokens: int = 24
    batch_size: int = 64


def decoding_hash(decoding: Decoding) -> str:
    """Hash of all that decides what a model is asked: two results compare only if theirs are equal."""
    return stable_hash(
        {
            "method": "greedy",
            "max_new_tokens": decoding.max_new_tokens,
            "template": "bos prompt / space answer eos",
            "normalisation": NORMALISATION,
        }
    )


def require_comparable(tables: Mapping[str, pd.DataFrame]) -> None:
    """Refuse to compare evaluations that were asked different questions.

    Args:
        tables: evaluation tables of one language, by arm and seed.

    Raises:
        InputError: decoding hashes differ, or the prompts are not the same ones.
    """
    names = sorted(tables)
    for name in names[1:]:
        first, other = tables[names[0]], tables[name]
        if first.attrs.get("decoding_hash") != other.attrs.get("decoding_hash"):
            raise InputError(f"{name} was decoded with other settings than {names[0]}. Evaluate both again.")
        if list(first["example_id"]) != list(other["example_id"]):
            raise InputError(f"{name} was evaluated on other prompts than {names[0]}. Evaluate both again.")


def choose_prompts(rows: pd.DataFrame, items: int) -> pd.DataFrame:
    """The prompts that are scored: at most `items` of each cell, the same ids in every language and arm.

    A cell is a split of the direct prompts in trained wordings, or new wordings or one of the other kinds
    on TEST groups. FIT rows are never scored. The choice is by hash of the id: neither order nor language
    changes it.

    Args:
        rows: cleaned rows of one language.
        items: largest number a cell.

    Raises:
        InputError: no row is left to score.
    """
    plain = (rows["kind"] == "direct") & (rows["template_split"] == "trained")
    scored = rows[(rows["split"] == "test") | (rows["split"].isin(["dev", "holdout"]) & plain)]
    if scored.empty:
        raise InputError("no DEV, TEST or holdout row to score. Check data.fit_share and data.dev_share.")
    rank = scored["example_id"].map(lambda name: seed_from("evaluation", name))
    cells = [scored[name] for name in ("kind", "split", "template_split")]
    place = rank.groupby(cells).rank(method="first")
    return scored[place <= items].sort_values("example_id").reset_index(drop=True)
