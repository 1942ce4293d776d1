"""Counts that describe a corpus, taken from its rows and from nothing else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mmie.data.artefacts import artefact_counts
from mmie.data.comparison import comparison_key, ids_hash

Rows = Sequence[Mapping[str, str | int]]
IDS = ("group", "fact_id", "template_id")
TEXTS = ("prompt", "answer")


@dataclass(frozen=True)
class Limit:
    """A measured value against its limit.

    Attributes:
        name: what is measured.
        value: the measured value; NaN where it cannot be measured, which is no failure and is reported.
        limit: the allowed value.
        direction: `at_least` or `at_most`.
        option: key under `data` that holds the limit.
    """

    name: str
    value: float
    limit: float
    direction: str
    option: str

    @property
    def passed(self) -> bool:
        if math.isnan(self.value):
            return True
        return self.value >= self.limit if self.direction == "at_least" else self.value <= self.limit

    @property
    def complaint(self) -> str | None:
        """What a person should read when the limit does not hold."""
        if self.passed:
            return None
        unit = "" if self.name == "rows" else ".2%"
        words = self.direction.replace("_", " ")
        return (
            f"{self.name.replace('_', ' ')}: {self.value:{unit}}, allowed {words} {self.limit:{unit}}. "
            f"Correct the data, or change data.{self.option}."
        )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def describe_rows(rows: Rows) -> dict[str, Any]:
    """Unique values, kinds, provenance and artefacts of a set of rows."""
    return {
        "unique": {name: len({str(row[name]) for row in rows} - {""}) for name in IDS}
        | {name: len({comparison_key(str(row[name])) for row in rows}) for name in TEXTS},
        "kinds": _counts(rows, "kind"),
        "template_splits": _counts(rows, "template_split"),
        "relations": _counts(rows, "relation"),
        "provenance": _counts(rows, "provenance"),
        "artefacts": artefact_counts((str(row["prompt"]), str(row["answer"])) for row in rows),
    }


def describe_splits(rows: Rows) -> dict[str, dict[str, Any]]:
    """Rows and groups of each split, and the hash of its ids: the name of an evaluation set."""
    found = {}
    for split in sorted({str(row["split"]) for row in rows}):
        inside = [row for row in rows if row["split"] == split]
        found[split] = {
            "rows": len(inside),
            "groups": len({row["group"] for row in inside}),
            "kinds": _counts(inside, "kind"),
            "ids": ids_hash(str(row["example_id"]) for row in inside),
        }
    return found


def _counts(rows: Rows, name: str) -> dict[str, int]:
    return dict(sorted(Counter(str(row[name]) for row in rows).items()))
