"""What forget, retain and neighbour sets have in common, split by split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmie.data.phrases import Row, WordingIndex
from mmie.data.problems import Problem
from mmie.errors import InputError


@dataclass(frozen=True)
class Overlap:
    """Shared wording of sets.

    Attributes:
        matrix: set -> other set -> {"text": rows of the first that the other holds whole, "phrase": rows
            that share 13 words with a row of another template and group}; only pairs that share something.
        undeclared: one problem for each row in a pair that was not declared.
    """

    matrix: dict[str, dict[str, dict[str, int]]]
    undeclared: list[Problem]


def overlaps(sets: Mapping[str, Sequence[Row]], declared: Sequence[str] = ()) -> Overlap:
    """Compare every set with every other, over all rows.

    Args:
        sets: rows by set name, such as `forget/fit`.
        declared: pairs that may share texts, as `forget/fit~retain/fit`.

    Raises:
        InputError: a declared pair names a set that does not exist.
    """
    allowed = _pairs(declared, sets)
    index = WordingIndex(whole="row")
    for name, rows in sets.items():
        for row in rows:
            index.add(row, name)
    counts: dict[str, dict[str, Counter[str]]] = {}
    undeclared: list[Problem] = []
    for name, rows in sets.items():
        for row in rows:
            for other, (kind, holder) in sorted(index.others(row, name).items()):
                counts.setdefault(name, {}).setdefault(other, Counter())[kind] += 1
                if frozenset((name, other)) not in allowed and name < other:
                    undeclared.append(_problem(row, name, holder, other, kind))
    matrix = {
        name: {other: {"text": kinds["text"], "phrase": kinds["phrase"]} for other, kinds in others.items()}
        for name, others in counts.items()
    }
    return Overlap(matrix, undeclared)


def _pairs(declared: Sequence[str], sets: Mapping[str, Sequence[Row]]) -> set[frozenset[str]]:
    pairs = set()
    for entry in declared:
        names = entry.split("~")
        if len(names) != 2 or not set(names) <= set(sets):
            raise InputError(
                f"data.declared_overlaps: {entry!r} names no pair of sets. Write two of "
                f"{', '.join(sorted(sets))} with ~ between them."
            )
        pairs.add(frozenset(names))
    return pairs


def _problem(row: Row, name: str, holder: Row, other: str, kind: str) -> Problem:
    shared = "the same text" if kind == "text" else "13 words in a row"
    detail = (
        f"{name} and {other} share {shared} (the other is {holder['file']}:{holder['line']}). "
        f"Remove one, or declare {name}~{other} in data.declared_overlaps."
    )
    return Problem(str(row["file"]), int(row["line"]), "overlap", detail)
