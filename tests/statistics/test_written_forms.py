from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest

from mmie.statistics.cells import build_cells
from mmie.statistics.options import Draws, Options
from mmie.statistics.written_forms import FORMS, script_matrix

FAST = Options(experiment="forms", n_resamples=1000)
FORGET = ["hi", "hi_Latn"]


def rows(arm: str, language: str, leak: float, items: int = 20) -> pd.DataFrame:
    return pd.DataFrame({
        "arm": arm, "seed": 0, "language": language, "split": "test", "kind": "direct",
        "example_id": [f"i{i:02d}" for i in range(items)], "group": [f"g{i:02d}" for i in range(items)],
        "leak": [float(i < leak * items) for i in range(items)],
    })  # fmt: skip


def matrix(forms: dict[str, tuple[str, ...]], forget: list[str] = FORGET) -> pd.DataFrame:
    """Arms that leave 0.2 of a base of 0.8 in the form they were fitted on, 0.6 in the other."""
    table = [rows("base", language, 0.8) for language in forget]
    for arm, fitted in forms.items():
        table += [rows(arm, code, 0.2 if code in fitted else 0.6) for code in forget]
    options = replace(FAST, written_forms=forms)
    found = script_matrix(build_cells(pd.concat(table)), forget, options, Draws(options))
    return found.set_index(["fitted", "tested"])


@pytest.mark.regression("EVA-30")
def test_there_are_nine_cells_of_fitted_and_tested_form() -> None:
    found = matrix({"native": ("hi",), "latin": ("hi_Latn",), "joint": ("hi", "hi_Latn")})
    assert set(found.index) == {(left, right) for left in FORMS for right in FORMS} and len(found) == 9
    # Without an oracle T = 1 - S / S_base: 0.75 in the fitted form, 0.25 in the other, 0.5 in both.
    expected = {
        ("native", "native"): 0.75, ("native", "romanised"): 0.25, ("native", "both"): 0.5,
        ("romanised", "native"): 0.25, ("romanised", "romanised"): 0.75, ("romanised", "both"): 0.5,
        ("both", "native"): 0.75, ("both", "romanised"): 0.75, ("both", "both"): 0.75,
    }  # fmt: skip
    assert found["estimate"].to_dict() == pytest.approx(expected)
    assert (found["ci_low"] <= found["estimate"]).all() and (found["estimate"] <= found["ci_high"]).all()


@pytest.mark.regression("EVA-30")
def test_a_cell_without_an_arm_says_so() -> None:
    found = matrix({"joint": ("hi", "hi_Latn")})
    assert len(found) == 9 and found["estimate"].notna().sum() == 3
    assert found.loc[("native", "romanised"), "reason"] == "no arm was fitted on this form alone"


def test_a_form_that_the_experiment_lacks_is_not_measured() -> None:
    found = matrix({"joint": ("hi",)}, ["hi"])
    assert math.isnan(found.loc[("native", "romanised"), "estimate"])
    assert found.loc[("native", "romanised"), "reason"] == "no romanised form of the language is configured"
    assert found.loc[("native", "native"), "estimate"] == pytest.approx(0.75)


def test_the_transfer_table_names_the_form_and_has_native_romanised_and_mixed_wording(summary) -> None:
    table = summary.extras["transfer"]
    hindi = table[
        (table["arm"] == "good") & (table["metric"] == "leak") & table["language"].str.startswith("hi")
    ]
    assert set(zip(hindi["form"], hindi["split"], strict=True)) >= {
        ("native", "test"), ("native", "mixed"), ("romanised", "test"), ("romanised", "mixed"),
    }  # fmt: skip
    measured = hindi[hindi["split"].isin(["test", "mixed"])]
    assert measured[["estimate", "ci_low", "ci_high"]].notna().all(axis=None)
