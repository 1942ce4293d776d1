"""What one member of the identification ensemble says about one text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

ABSTAIN = "und"


class Vote(NamedTuple):
    """A member's raw label (or `und`) and its confidence in [0, 1]; 0 when it abstains for lack
    of anything to judge."""

    member: str
    label: str
    confidence: float


class Member(Protocol):
    """A language identifier: one vote for each text, in order, each vote from that text alone."""

    name: str

    def vote(self, texts: Sequence[str]) -> list[Vote]: ...

    def description(self) -> dict[str, str]:
        """Version and model hash, for the manifest."""
        ...


def majority(votes: Sequence[Vote]) -> str:
    """The label that more than half of the members who voted gave; otherwise `und`.

    Plurality is not enough and a tie abstains. The order of the votes changes nothing.
    """
    labels = [vote.label for vote in votes if vote.label != ABSTAIN]
    for label in set(labels):
        if 2 * labels.count(label) > len(labels):
            return label
    return ABSTAIN
