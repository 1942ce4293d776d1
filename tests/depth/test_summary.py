import math

import pandas as pd
import pytest

from mmie.depth.summary import (
    perturbation_effect,
    recoverability_gap,
    representation_changed,
    summarise,
    unlearning_depth,
)

BASE = {0: -1.0, 1: -1.0, 2: -1.0}
ORACLE = {0: -1.04, 1: -3.0, 2: -5.0}


def test_depth_is_one_for_the_oracle_and_zero_for_the_base() -> None:
    assert unlearning_depth(BASE, ORACLE, ORACLE) == 1.0
    assert unlearning_depth(BASE, ORACLE, BASE) == 0.0


def test_depth_by_hand_leaves_layers_out_where_the_oracle_does_not_differ() -> None:
    # Drops of the oracle: 0.04 (does not count), 2, 4. The arm reaches 1 of 2 and all of 4.
    assert unlearning_depth(BASE, ORACLE, {0: -9.0, 1: -2.0, 2: -6.0}) == pytest.approx(5 / 6)
    assert unlearning_depth(BASE, ORACLE, {0: 0.0, 1: 0.0, 2: 0.0}) == 0.0
    assert math.isnan(unlearning_depth(BASE, BASE, ORACLE))
    assert math.isnan(unlearning_depth(BASE, ORACLE, {**BASE, 2: math.nan}))


def test_recoverability_gap_by_hand() -> None:
    base, oracle = {0: 0.1, 1: 0.4}, {0: 0.1, 1: 0.0}
    assert recoverability_gap(base, oracle, {0: 0.9, 1: 0.3}) == pytest.approx(0.3)
    assert recoverability_gap(base, oracle, oracle) == 0.0
    assert recoverability_gap(base, oracle, base) == pytest.approx(0.4)
    assert math.isnan(recoverability_gap(base, base, oracle))


@pytest.mark.regression("EVA-13")
def test_untouched_arm_is_not_flagged_and_an_erased_one_is() -> None:
    assert not representation_changed({0: 0.4, 1: 0.45}, {0: 0.4, 1: 0.45})
    assert representation_changed({0: 0.4, 1: 0.45}, {0: 0.4, 1: 0.05})
    assert not representation_changed({0: 0.4}, {0: 0.6})


def test_perturbation_effect_is_the_mean_over_layers() -> None:
    assert perturbation_effect({0: 0.2, 1: -0.1}) == pytest.approx(0.05)
    assert math.isnan(perturbation_effect({}))


def tables() -> pd.DataFrame:
    values = {
        "base": {"patched_log_p": -1.0, "lens_log_p": -1.0, "probe_selectivity": 0.4},
        "oracle_reference": {"patched_log_p": -3.0, "lens_log_p": -3.0, "probe_selectivity": 0.0},
        "arm": {"patched_log_p": -2.0, "lens_log_p": -3.5, "probe_selectivity": 0.1},
    }
    return pd.DataFrame(
        [
            {"arm": arm, "seed": 0, "layer": 0, "measure": measure, "value": value}
            for arm, found in values.items()
            for measure, value in {**found, "perturbation_effect": 0.0}.items()
        ]
    )


def test_summary_puts_base_and_oracle_beside_every_arm() -> None:
    table = summarise(tables(), base="base", oracle="oracle_reference")
    arm = table[table["arm"] == "arm"].set_index("measure")
    assert arm.loc["unlearning_depth", ["value", "base", "oracle"]].tolist() == [0.5, 0.0, 1.0]
    assert arm.loc["logit_lens_depth", "value"] == 1.0
    assert arm.loc["recoverability_gap", ["value", "base", "oracle"]].tolist() == [0.1, 0.4, 0.0]
    assert arm.loc["recoverability_gap", "changed"]


@pytest.mark.regression("EVA-12")
def test_base_and_oracle_against_themselves_are_marked_as_calibration() -> None:
    table = summarise(tables(), base="base", oracle="oracle_reference")
    marked = table.groupby("arm")["calibration"].first()
    assert marked.to_dict() == {"arm": False, "base": True, "oracle_reference": True}


def test_summary_without_an_oracle_says_so() -> None:
    table = summarise(tables().query("arm != 'oracle_reference'"), base="base", oracle="oracle_reference")
    assert table["value"].isna().all()
    assert set(table["reason"]) == {"oracle_reference was not measured"}
