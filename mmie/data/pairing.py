"""Parallel rows: joined on their id, never on their place in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mmie.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def pair_rows(left: pd.DataFrame, right: pd.DataFrame, *, names: tuple[str, str]) -> pd.DataFrame:
    """Join two languages on `example_id`, the id that parallel rows share.

    Args:
        left, right: cleaned rows of two languages; the order of rows is of no account.
        names: what errors call them.

    Returns:
        One row a pair, sorted by id: example_id and every other column twice, with `_left` and `_right`.

    Raises:
        InputError: a table without ids, ids that are not unique, or no id in both.
    """
    import pandas as pd

    for name, table in zip(names, (left, right), strict=True):
        if "example_id" not in table.columns:
            raise InputError(
                f"{name}: rows have no example_id, so nothing tells which are parallel. Add ids."
            )
        if table["example_id"].duplicated().any():
            twice = table["example_id"][table["example_id"].duplicated()].iloc[0]
            raise InputError(f"{name}: the id {twice!r} occurs twice. Give every row its own id.")
    paired = pd.merge(left, right, on="example_id", suffixes=("_left", "_right"), validate="one_to_one")
    if paired.empty:
        raise InputError(
            f"{names[0]} and {names[1]} share no example_id: their rows are not parallel. "
            "Give rows that say the same in both languages the same id."
        )
    return paired.sort_values("example_id", ignore_index=True)


def parallel_counts(frames: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, int]]:
    """How many rows each pair of languages has in parallel: language -> other language -> rows."""
    ids = {language: set(frame["example_id"]) for language, frame in frames.items()}
    return {
        one: {other: len(ids[one] & ids[other]) for other in sorted(ids) if other != one}
        for one in sorted(ids)
    }


def unchanged_rows(source: pd.DataFrame, romanised: pd.DataFrame, *, names: tuple[str, str]) -> pd.DataFrame:
    """Parallel rows whose romanised answer is the very text of the source, although that has letters.

    Numbers and Latin names are the same in both; what is meant is text that nobody converted.
    """
    from mmie.language.scripts import script_share

    paired = pair_rows(source, romanised, names=names)
    same = paired["answer_left"] == paired["answer_right"]
    script = str(source["script"].iloc[0])
    native = paired["answer_left"].map(lambda text: script_share(text, script) > 0)
    return paired[same & native]
