"""FIT, DEV and TEST by group, so that no fact is scored by what it was fitted on.

A group's split is a function of its name and the seed alone: adding a language, a file or a row moves no
other group, and the parallel rows of a group stay together in every language.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmie.data.options import DataOptions
from mmie.data.phrases import Row, WordingIndex
from mmie.data.problems import Problem
from mmie.io import seed_from

SPLITS = ("fit", "dev", "test", "holdout")
EVALUATION = ("dev", "test", "holdout")

Rows = Sequence[Row]


def position(*names: object) -> float:
    """A number in [0, 1) that depends on the names alone; 63 bits of a hash."""
    return seed_from(*names) / 2**63


def split_of(group: str, seed: int, fit_share: float, dev_share: float) -> str:
    """Split of a group: `fit`, `dev` or `test` with the given shares, by hash of seed and group."""
    place = position("split", seed, group)
    if place < fit_share:
        return "fit"
    return "dev" if place < fit_share + dev_share else "test"


def assign_splits(rows: Rows, options: DataOptions) -> tuple[list[str], list[Problem]]:
    """The split of every row, and rows whose group is declared in two splits.

    A split that the data gives is respected and holds for the whole group; other groups are drawn.

    Returns:
        Splits in the order of `rows`; problems with file and line.
    """
    declared: dict[str, tuple[str, str]] = {}
    problems: list[Problem] = []
    for row in rows:
        split, group = str(row["split"]), str(row["group"])
        if not split:
            continue
        first, place = declared.setdefault(group, (split, f"{row['file']}:{row['line']}"))
        if first != split:
            detail = (
                f"group {group!r} is in split {split!r} here and in {first!r} at {place}. "
                "Give all rows of a group the same split."
            )
            problems.append(Problem(str(row["file"]), int(row["line"]), "split_leak", detail))
    drawn = [
        declared[group][0]
        if (group := str(row["group"])) in declared
        else split_of(group, options.seed, options.fit_share, options.dev_share)
        for row in rows
    ]
    return drawn, problems


def leaks(rows: Rows) -> dict[int, Problem]:
    """Rows whose text an earlier split holds already, by their place in `rows`; each row has its `split`.

    A leak is a prompt that a row of another split has too, or 13 words in a row that a row of another
    split, group and template has, after normalisation. FIT comes first, then DEV, TEST and holdout: what
    is fitted scores nothing, and what chooses a setting does not score it.
    """
    index = WordingIndex(whole="prompt")
    found: dict[int, Problem] = {}
    for place in sorted(range(len(rows)), key=lambda place: SPLITS.index(str(rows[place]["split"]))):
        row = rows[place]
        split = str(row["split"])
        others = index.others(row, split)
        if others:
            first = min(others, key=SPLITS.index)
            found[place] = _leak(row, others[first][1])
        else:
            index.add(row, split)
    return found


def _leak(row: Row, other: Row) -> Problem:
    detail = (
        f"its text in split {row['split']!r} is also in split {other['split']!r}, at "
        f"{other['file']}:{other['line']}. Put both rows in one group, or remove one."
    )
    return Problem(str(row["file"]), int(row["line"]), "split_leak", detail)
