"""Other answers to forget prompts: a refusal, or the answer to another prompt, in the same language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmie.errors import InputError
from mmie.io import read_json, seed_from

if TYPE_CHECKING:
    import pandas as pd

REFUSALS = Path(__file__).with_name("refusals.json")
"""Refusals by language; one in another language than its prompt would train language confusion."""


def refusals(rows: pd.DataFrame, seed: int, pools: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """A refusal for each row, drawn from the pool of its language.

    Args:
        rows: columns example_id, language.
        seed: of the run; a row's refusal depends on the seed and the row alone.
        pools: refusals by language; None for the shipped ones.

    Raises:
        InputError: a language without a pool.
    """
    pools = read_json(REFUSALS) if pools is None else pools
    missing = sorted(set(rows["language"]) - set(pools))
    if missing:
        raise InputError(
            f"objective: no refusals in {', '.join(missing)}. Add them to mmie/objectives/refusals.json, "
            "written in that language and script."
        )
    drawn = []
    for example_id, language in zip(rows["example_id"], rows["language"], strict=True):
        generator = np.random.default_rng(seed_from("refusal", seed, language, example_id))
        drawn.append(pools[language][int(generator.integers(len(pools[language])))])
    return drawn


def plausible_answers(rows: pd.DataFrame, seed: int) -> list[str]:
    """For each row, the answer to another prompt of its language and, where known, of its relation.

    A wrong answer of the right kind: another capital for a capital. The paper lets the model write the
    alternates; here they are drawn, so that no step of training depends on a generation.

    Args:
        rows: columns example_id, language, answer; `relation` where the data have it.
        seed: of the run; a row's alternate depends on the seed, the row and the pool alone.

    Raises:
        InputError: a row with no other answer in its pool.

    Source: after Mekala et al. 2024 (arXiv 2409.13474).
    """
    keys = ["language", "relation"] if "relation" in rows else ["language"]
    pools = {key: sorted(set(group["answer"])) for key, group in rows.groupby(keys, dropna=False)}
    drawn = []
    for row in rows.to_dict("records"):
        pool = [answer for answer in pools[tuple(row[key] for key in keys)] if answer != row["answer"]]
        if not pool:
            raise InputError(
                f"objective: {row['example_id']} ({row['language']}) has no other answer to prefer: "
                "all prompts of its kind share one answer. Use idk_dpo, or give more rows."
            )
        generator = np.random.default_rng(seed_from("alternate", seed, row["language"], row["example_id"]))
        drawn.append(pool[int(generator.integers(len(pool)))])
    return drawn
