from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mmie.errors import InputError
from mmie.statistics.margins import calibrate_margins
from mmie.statistics.options import Options

OPTIONS = Options(n_resamples=1000)


def test_a_margin_narrower_than_retraining_noise_is_reset_on_dev(experiment, gates, roles) -> None:
    gates["utility"]["threshold"] = -0.001
    found = calibrate_margins(experiment[0], gates, roles, OPTIONS)["utility"]
    assert found["preset"] == 0.001
    assert found["used"] == found["dev_bound"] > 0.001
    assert found["note"] == "reset on DEV" and found["language"] in roles["retain"]


def test_a_wide_enough_margin_is_kept(experiment, gates, roles) -> None:
    gates["utility"]["threshold"] = -0.5
    found = calibrate_margins(experiment[0], gates, roles, OPTIONS)["utility"]
    assert found["used"] == found["preset"] == 0.5 > found["dev_bound"]


def test_headroom_multiplies_only_what_was_reset(experiment, gates, roles) -> None:
    gates["utility"]["threshold"] = -0.001
    options = Options(n_resamples=1000, headroom=1.5)
    found = calibrate_margins(experiment[0], gates, roles, options)
    assert found["utility"]["used"] == pytest.approx(1.5 * found["utility"]["dev_bound"])
    assert found["confusion"]["used"] == found["confusion"]["preset"]


def test_test_rows_and_other_arms_are_not_read(experiment, gates, roles) -> None:
    table = experiment[0]
    changed = table.copy()
    hidden = (table["split"] == "test") | ~table["arm"].isin(["base", "oracle_reference"])
    changed.loc[hidden, "correct"] = 0.0
    plain, other = (calibrate_margins(t, gates, roles, OPTIONS) for t in (table, changed))
    assert plain == other


def test_without_dev_rows_the_preset_stays_and_says_so(experiment, gates, roles) -> None:
    table = experiment[0]
    found = calibrate_margins(table[table["split"] == "test"], gates, roles, OPTIONS)["utility"]
    assert found["used"] == 0.05 and np.isnan(found["dev_bound"])
    assert "no DEV bound for bn, en" in found["note"]


def test_resetting_can_be_switched_off(experiment, gates, roles) -> None:
    gates["utility"]["threshold"] = -0.001
    options = Options(n_resamples=1000, reset_margins=False)
    assert calibrate_margins(experiment[0], gates, roles, options)["utility"]["used"] == 0.001


def test_only_preservation_gates_have_margins(experiment, gates, roles) -> None:
    found = calibrate_margins(experiment[0], gates, roles, OPTIONS)
    assert set(found) == {"utility", "bits", "neighbours", "collapse", "confusion"}


def test_headroom_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="headroom"):
        Options(headroom=0.5)


def test_an_unknown_role_is_named(experiment, gates) -> None:
    with pytest.raises(InputError, match="no role 'retain'"):
        calibrate_margins(pd.DataFrame(experiment[0]), gates, {"kept": ["en"]}, OPTIONS)
