from itertools import permutations

import pytest

from mmie.language.votes import ABSTAIN, Vote, majority


def votes(*labels: str) -> list[Vote]:
    return [Vote(f"member{place}", label, 0.9) for place, label in enumerate(labels)]


@pytest.mark.regression("LID-05")
@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("hi", "hi", "mr"), "hi"),
        (("hi", "mr"), ABSTAIN),
        (("hi", "mr", "ne"), ABSTAIN),
        (("hi", "hi", "mr", "ne"), ABSTAIN),
        ((ABSTAIN, "hi"), "hi"),
        ((ABSTAIN, ABSTAIN), ABSTAIN),
        ((), ABSTAIN),
    ],
)
def test_only_more_than_half_of_those_who_voted_decide_in_any_order(labels, expected) -> None:
    assert {majority(order) for order in permutations(votes(*labels))} == {expected}
