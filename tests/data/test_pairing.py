"""Parallel rows are joined on their id; where there is none, they are refused."""

from __future__ import annotations

import pandas as pd
import pytest

from mmie.data.pairing import pair_rows, parallel_counts, unchanged_rows
from mmie.errors import InputError

NAMES = ("hi", "hi_Latn")


def table(ids, answers, script):
    return pd.DataFrame({"example_id": ids, "answer": answers, "script": script})


HINDI = table(["a", "b", "c"], ["नदी", "झील", "1947"], "Deva")
ROMAN = table(["a", "b", "c"], ["nadi", "jhil", "1947"], "Latn")


@pytest.mark.regression("DAT-21")
def test_shuffling_one_side_changes_no_pair():
    shuffled = ROMAN.iloc[[2, 0, 1]].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        pair_rows(HINDI, shuffled, names=NAMES), pair_rows(HINDI, ROMAN, names=NAMES)
    )
    assert pair_rows(HINDI, shuffled, names=NAMES)["answer_right"].tolist() == ["nadi", "jhil", "1947"]


@pytest.mark.regression("DAT-21")
@pytest.mark.parametrize(
    "other",
    [
        ROMAN.drop(columns="example_id"),
        ROMAN.assign(example_id=["x", "y", "z"]),
        ROMAN.assign(example_id=["a", "a", "b"]),
    ],
)
def test_rows_without_common_ids_are_refused(other):
    with pytest.raises(InputError, match="hi_Latn"):
        pair_rows(HINDI, other, names=NAMES)


@pytest.mark.regression("DAT-11")
def test_a_copy_of_the_source_is_not_romanised():
    assert unchanged_rows(HINDI, ROMAN, names=NAMES).empty
    copied = HINDI.assign(script="Latn")
    assert unchanged_rows(HINDI, copied, names=NAMES)["example_id"].tolist() == ["a", "b"]


def test_parallel_rows_are_counted():
    assert parallel_counts({"hi": HINDI, "hi_Latn": ROMAN.head(2)}) == {
        "hi": {"hi_Latn": 2},
        "hi_Latn": {"hi": 2},
    }
