"""A rate that rests on language identification carries its abstention, and its corrected form."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from mmie.statistics.identification import identification

NAN = math.nan


def rows(scores: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"arm": "base", "language": "hi", "script": "Deva", "target_language": scores})


@pytest.mark.regression("LID-10")
def test_the_corrected_rate_recovers_a_known_prevalence() -> None:
    # 6 of 10 answers are Hindi; the identifier finds 5 of them and calls 1 of the other 4 Hindi too.
    scores = [1.0] * 5 + [0.0] + [1.0] + [0.0] * 3
    measured = {"hi": {"right": 5 / 6, "false_positives": 1 / 4}}
    [row] = identification(rows(scores), measured).to_dict("records")
    assert row["raw"] == pytest.approx(0.6)
    assert row["corrected"] == pytest.approx(0.6)
    [row] = identification(
        rows([1.0] * 4 + [0.0] * 6), {"hi": {"right": 0.8, "false_positives": 0.0}}
    ).to_dict("records")
    assert row["corrected"] == pytest.approx(0.5)


def test_abstentions_are_counted_and_are_not_the_language() -> None:
    [row] = identification(rows([1.0, NAN, NAN, 0.0]), None).to_dict("records")
    assert (row["n"], row["abstained"], row["raw"]) == (4, 0.5, 0.25)
    assert math.isnan(row["corrected"])


def test_rows_without_identification_give_an_empty_table() -> None:
    assert identification(rows([1.0]).drop(columns="target_language"), None).empty
