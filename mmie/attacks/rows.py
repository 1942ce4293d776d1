"""Which rows an attacker holds and which are scored; no group is ever on both sides."""

from __future__ import annotations

import pandas as pd

from mmie.errors import InputError
from mmie.evaluation import choose_prompts
from mmie.io import seed_from

RELEARN_DATA = {
    "relearn": "fit",
    "relearn_subset": "subset",
    "relearn_held_out": "held_out",
    "relearn_benign": "benign",
}
"""Name of each relearning attack and of the attacker's data in it."""


def direct_rows(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    """Plain prompts of one split."""
    chosen = rows[(rows["split"] == split) & (rows["kind"] == "direct")]
    return chosen.reset_index(drop=True)


def scored_rows(frames: list[pd.DataFrame], items: int, split: str = "test") -> pd.DataFrame:
    """Direct prompts of a split, chosen as the evaluation chooses them, of several languages.

    Args:
        frames: cleaned rows, one frame a forget language.
        items: largest number of each cell (trained and new wordings) and language.
        split: "test" or "dev".
    """
    return direct_rows(pd.concat([choose_prompts(rows, items) for rows in frames]), split)


def relearn_sets(
    attack: str, forget: list[pd.DataFrame], retain: list[pd.DataFrame], items: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The attacker's rows and the scored rows of a relearning attack.

    - `relearn`: FIT facts, which the arms were fitted to forget; scored on TEST facts.
    - `relearn_subset`: half of the FIT facts; scored on the other half.
    - `relearn_held_out`: DEV facts, which no arm was fitted on; scored on TEST facts.
    - `relearn_benign`: FIT facts in the retain languages; scored on TEST facts.

    Args:
        attack: name of the attack.
        forget: cleaned rows, one frame a forget language.
        retain: cleaned rows, one frame a retain language.
        items: largest number of scored prompts of each cell and language.

    Returns:
        (the attacker's rows, the scored rows).

    Raises:
        InputError: an unknown attack.
    """
    fit = direct_rows(pd.concat(forget), "fit")
    test = scored_rows(forget, items)
    if attack == "relearn":
        return fit, test
    if attack == "relearn_held_out":
        return direct_rows(pd.concat(forget), "dev"), test
    if attack == "relearn_benign":
        return direct_rows(pd.concat(retain), "fit"), test
    if attack == "relearn_subset":
        held = fit["group"].map(lambda group: seed_from("relearn_subset", group) % 2 == 0)
        return fit[held].reset_index(drop=True), _at_most(fit[~held], items)
    raise InputError(f"attacks: {attack!r} is no relearning attack. Known: {', '.join(RELEARN_DATA)}.")


def _at_most(rows: pd.DataFrame, items: int) -> pd.DataFrame:
    """At most `items` rows of each language, by hash of the id, the same ids in every language."""
    rank = rows["example_id"].map(lambda name: seed_from("evaluation", name))
    place = rank.groupby(rows["language"]).rank(method="first")
    return rows[place <= items].reset_index(drop=True)
