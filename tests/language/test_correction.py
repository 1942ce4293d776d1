import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.errors import InputError
from mmie.language.correction import (
    abstention,
    confusion_matrix,
    corrected_rate,
    corrected_shares,
    reliability,
    require_reliable,
    wilson_low,
)
from mmie.language.identify import Identifier
from mmie.language.measurement import measure
from mmie.language.votes import ABSTAIN, Vote


def counts(**rows: dict[str, int]) -> pd.DataFrame:
    """Long confusion counts: language=dict(verdict=n)."""
    return pd.DataFrame(
        [
            {"language": language, "script": "Latn", "verdict": verdict, "n": n}
            for language, verdicts in rows.items()
            for verdict, n in verdicts.items()
        ]
    )


GOOD = counts(hi={"hi": 90, "en": 4, ABSTAIN: 6}, en={"en": 98, ABSTAIN: 2})


class Coin:
    """Calls every second text Hindi, whatever it is."""

    name = "coin"

    def vote(self, texts):
        return [Vote(self.name, "hi" if place % 2 else "en", 1.0) for place in range(len(texts))]

    def description(self):
        return {"member": self.name}


@pytest.mark.regression("LID-10")
def test_a_deliberately_bad_identifier_fails_the_gate() -> None:
    texts = [f"the river number {number} is long" for number in range(200)]
    languages = ["en" if number % 4 < 2 else "hi" for number in range(200)]
    confusion = measure(Identifier({"en": "Latn", "hi": "Latn"}, [Coin()]), texts, languages)
    results = reliability(confusion)
    assert [(item.language, item.right, item.passes) for item in results] == [
        ("en", 0.5, False),
        ("hi", 0.5, False),
    ]
    with pytest.raises(InputError, match=r"accuracy may be as low as 0\.404"):
        require_reliable(results)


@pytest.mark.regression("LID-10")
def test_correction_recovers_a_known_prevalence() -> None:
    # 30 of 100 texts are Hindi; 20 % of Hindi is taken for English and 10 % of English for Hindi.
    confusion = counts(hi={"hi": 80, "en": 20}, en={"en": 90, "hi": 10})
    raw = {"hi": 30 * 0.8 + 70 * 0.1, "en": 30 * 0.2 + 70 * 0.9}
    matrix = confusion_matrix(confusion).droplevel("script")
    shares = corrected_shares(raw, matrix)
    assert shares["hi"] == pytest.approx(0.3, abs=1e-6)
    assert corrected_rate(raw["hi"] / 100, 0.8, 0.1) == pytest.approx(0.3)


@pytest.mark.regression("LID-10")
def test_matrix_is_by_language_and_script_with_abstention_last() -> None:
    extra = pd.DataFrame([{"language": "hi", "script": "Deva", "verdict": "hi", "n": 7}])
    matrix = confusion_matrix(pd.concat([GOOD, extra]))
    assert list(matrix.columns) == ["en", "hi", ABSTAIN]
    assert matrix.loc[("hi", "Latn")].tolist() == [4, 90, 6]
    assert matrix.loc[("hi", "Deva")].tolist() == [0, 7, 0]


def test_a_good_identifier_passes_and_its_rates_are_counted_by_hand() -> None:
    hindi = {item.language: item for item in reliability(GOOD, least_accuracy=0.85)}["hi"]
    assert (hindi.right, hindi.wrong, hindi.abstained) == (0.9, 0.04, 0.06)
    assert hindi.false_positives == 0.0
    # Wilson for 90 of 94, by an independent calculator.
    assert hindi.lowest_right == pytest.approx(0.8956, abs=1e-4)
    assert hindi.passes
    require_reliable([hindi])


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (counts(hi={"hi": 20}), "measured on 20 texts"),
        (counts(hi={"hi": 30, ABSTAIN: 70}), "no verdict on 70%"),
        (counts(hi={"hi": 60, "ur": 40}), "accuracy may be as low as"),
        (counts(hi={ABSTAIN: 40}), "no verdict on 100%"),
    ],
)
def test_gate_says_why_a_language_fails(table, reason) -> None:
    (result,) = reliability(table)
    assert not result.passes
    assert reason in result.reason


def test_no_correction_where_verdicts_say_nothing() -> None:
    assert math.isnan(corrected_rate(0.4, 0.5, 0.5))
    assert math.isnan(corrected_rate(0.4, 0.2, 0.6))
    assert math.isnan(corrected_rate(0.4, math.nan, 0.1))
    assert math.isnan(wilson_low(0, 0))


def test_corrected_rates_stay_fractions() -> None:
    assert corrected_rate(0.01, 0.9, 0.05) == 0.0
    assert corrected_rate(0.99, 0.9, 0.05) == 1.0


def test_verdict_that_was_never_measured_is_an_error() -> None:
    matrix = confusion_matrix(GOOD).droplevel("script")
    with pytest.raises(InputError, match="'fr' is not in the measured"):
        corrected_shares({"hi": 3, "fr": 1}, matrix)
    with pytest.raises(InputError, match="no verdicts"):
        corrected_shares({}, matrix)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3))
def test_exact_mixtures_of_a_diagonal_heavy_matrix_are_recovered(weights) -> None:
    truth = np.array(weights) / sum(weights)
    matrix = pd.DataFrame(
        [[85, 5, 4, 6], [3, 80, 12, 5], [2, 8, 88, 2]],
        index=["a", "b", "c"],
        columns=["a", "b", "c", ABSTAIN],
    )
    observed = dict(zip(matrix.columns, truth @ matrix.to_numpy(), strict=True))
    shares = corrected_shares(observed, matrix)
    assert sum(shares.values()) == pytest.approx(1.0)
    np.testing.assert_allclose(list(shares.values()), truth, atol=1e-4)


def test_abstention_is_counted_for_each_arm_language_and_script() -> None:
    rows = pd.DataFrame(
        {
            "arm": ["base"] * 3 + ["oracle"],
            "language": ["hi", "hi", "hi", "hi"],
            "script": ["Deva"] * 4,
            "target_language": [1.0, math.nan, 0.0, math.nan],
        }
    )
    assert abstention(rows).to_dict("records") == [
        {"arm": "base", "language": "hi", "script": "Deva", "n": 3, "abstained": pytest.approx(1 / 3)},
        {"arm": "oracle", "language": "hi", "script": "Deva", "n": 1, "abstained": 1.0},
    ]
