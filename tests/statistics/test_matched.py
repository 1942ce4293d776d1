from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from mmie.statistics.cells import Cell, Cells
from mmie.statistics.matched import divergences, with_divergences
from mmie.statistics.options import Options

ROLES = {"forget": ["hi"], "kept": ["en", "ur"]}


def cells(scores: dict[str, dict[str, list[list[float]]]]) -> Cells:
    """TEST cells of one score; by language and arm, items x seeds."""
    made: Cells = {}
    for language, arms in scores.items():
        table = {arm: np.array(values)[:, :, None] for arm, values in arms.items()}
        items = tuple(f"i{number}" for number in range(len(next(iter(table.values())))))
        seeds = {arm: tuple(range(values.shape[1])) for arm, values in table.items()}
        made[language, "test"] = Cell(language, "test", items, items, ("kl_from_base",), table, seeds)
    return made


SCORES = {
    "en": {"a": [[0.1, 0.3], [0.2, 0.2]], "b": [[0.3], [0.3]], "c": [[0.8], [1.0]], "still": [[0.0], [0.0]]},
    "ur": {
        "a": [[0.4, 0.4], [0.4, 0.4]],
        "b": [[0.4], [math.nan]],
        "c": [[0.1], [0.1]],
        "still": [[0.0], [0.0]],
    },
    # The forget language is where arms shall move.
    "hi": {"a": [[9.0, 9.0], [9.0, 9.0]], "b": [[1.0], [1.0]], "c": [[5.0], [5.0]], "still": [[0.0], [0.0]]},
}


def test_the_divergence_is_the_mean_over_kept_languages_items_and_seeds() -> None:
    found = divergences(cells(SCORES), ROLES)
    assert found == pytest.approx({"a": 0.3, "b": 0.35, "c": 0.5, "still": 0.0})


@pytest.mark.regression("TRN-32")
def test_pairs_within_the_tolerance_are_matched_and_no_others() -> None:
    pairs = [("a", "b"), ("a", "c"), ("c", "b"), ("still", "a"), ("still", "still"), ("a", "unknown")]
    contrasts = pd.DataFrame(pairs, columns=["arm", "other"])
    table = with_divergences(contrasts, cells(SCORES), ROLES, Options(matched_divergence=1.25))
    assert table["matched"].tolist() == [True, False, False, False, True, False]
    for row in table[table["matched"] & (table["divergence"] > 0)].itertuples():
        assert 1 / 1.25 <= row.divergence / row.divergence_other <= 1.25
    wide = with_divergences(contrasts, cells(SCORES), ROLES, Options(matched_divergence=1.7))
    assert wide["matched"].tolist() == [True, True, True, False, True, False]


def test_an_arm_without_a_value_in_some_kept_language_is_matched_to_none() -> None:
    partial = {**SCORES, "ur": {**SCORES["ur"], "b": [[math.nan], [math.nan]]}}
    table = with_divergences(
        pd.DataFrame([("a", "b")], columns=["arm", "other"]), cells(partial), ROLES, Options()
    )
    assert math.isnan(table["divergence_other"][0]) and not table["matched"][0]


def test_without_the_score_nothing_is_matched() -> None:
    table = with_divergences(pd.DataFrame([("a", "b")], columns=["arm", "other"]), {}, ROLES, Options())
    assert not table["matched"].any()
