from __future__ import annotations

from itertools import combinations

import pytest

from mmie.activations.placement import Placement, SelectionRules, arrangements, placement
from mmie.errors import InputError


@pytest.mark.parametrize("gap", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_arrangements_are_the_sets_that_enumeration_finds(count: int, gap: int) -> None:
    pool = [1, 2, 4, 5, 6, 9]
    found = [
        chosen
        for chosen in combinations(pool, count)
        if all(abs(one - other) >= gap for one, other in combinations(chosen, 2))
    ]
    assert arrangements(pool, count, gap) == len(found)


def test_an_early_choice_leaves_room_for_the_rest() -> None:
    """Block 3 first would leave 1 and 5 for a third layer of 1 to 5, but 2 or 4 first would leave none."""
    place = Placement((1, 2, 3, 4, 5), gap=2, count=3, blocks=7)
    assert place.open([]) == [1, 3, 5]
    assert place.first([2, 4, 3, 1, 5]) == [1, 3, 5]


def test_small_models_exclude_fewer_blocks_and_relax_the_distance_by_name() -> None:
    place, notes = placement(range(4), 2)
    assert (place.candidates, place.gap) == ((1, 2), 1)
    assert notes == [
        "first 1 and last 1 of 4 blocks are excluded",
        "gap between layers relaxed to 1: too few blocks for 2",
    ]
    assert placement(range(12), 2)[0] == Placement(tuple(range(2, 11)), 2, 2, 12)
    with pytest.raises(InputError, match="3 layers at distance 1 do not fit"):
        placement(range(4), 3, SelectionRules(gap=1))


def test_with_some_blocks_read_the_range_and_the_middle_are_still_the_models() -> None:
    place, notes = placement([0, 8, 12, 16], 1, blocks=28)
    assert place.candidates == (8, 12, 16), "16 is not the last block"
    assert place.middle() == [12], "14 is the middle of 28; of 12 and 16 the lower"
    assert notes[-1] == "blocks that were read: 0, 8, 12, 16"
    with pytest.raises(InputError, match=r"blocks \[\].*activations\.layers"):
        placement([0, 1], 1, blocks=28)
