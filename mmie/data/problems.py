"""Problems of input data, collected so that a person sees them together and not one run at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmie.errors import InputError

SHOWN = 20


@dataclass(frozen=True, order=True)
class Problem:
    """Something wrong at one place.

    Attributes:
        file: path as the user gave it.
        line: line number from 1; 0 for the file as a whole.
        reason: short name, counted in reports (`invalid_json`).
        detail: what is wrong and the remedy, in a sentence.
        byte: offset in bytes from the start of the file where it is known, else -1.
    """

    file: str
    line: int
    reason: str
    detail: str
    byte: int = -1

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.detail}"


def raise_problems(problems: Sequence[Problem | str]) -> None:
    """Raise one InputError with a line a problem, the first 20 and the number of the rest.

    Raises:
        InputError: when there is any problem.
    """
    if not problems:
        return
    lines = [str(problem) for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"... and {len(problems) - SHOWN} more problems of the same run.")
    raise InputError("\n".join(lines))
