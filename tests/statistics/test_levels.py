from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mmie.statistics.aggregate import aggregate
from mmie.statistics.options import Options

FAST = Options(experiment="planted", n_resamples=1000)


@pytest.mark.regression("EVA-10")
def test_a_batch_of_undefined_losses_fails_the_metric_with_its_count(experiment, gates, roles) -> None:
    evaluation, attacks = experiment[0].copy(), experiment[1]
    cell = (
        (evaluation["arm"] == "oracle") & (evaluation["language"] == "en") & (evaluation["split"] == "test")
    )
    batch = evaluation.index[cell][:32]
    evaluation.loc[batch[:31], "bits_per_byte"] = np.nan
    evaluation.loc[batch[31], "bits_per_byte"] = np.inf
    summary = aggregate(evaluation, attacks, roles, gates, FAST)
    rows = summary.metrics.set_index(["arm", "language", "split", "metric"])
    failed = rows.loc[("oracle", "en", "test", "bits_per_byte")]
    assert (failed["status"], failed["n_missing"]) == ("failed", 32)
    assert failed["reason"] == "32 of 180 items have no score"
    assert rows.loc[("base", "en", "test", "bits_per_byte"), "status"] == "measured"
    gate = summary.gates["arms"]["oracle"]["gates"]["bits"]
    assert gate["status"] == "not_measured" and "32 of 180 items have no score" in gate["reason"]
    assert summary.gates["arms"]["oracle"]["codes"] == ["not_measured"]


@pytest.mark.regression("EVA-12")
def test_values_of_known_arms_are_marked_as_calibration(summary) -> None:
    known = {"base", "oracle", "broken", "sae-random"}
    for table in (summary.tests, summary.extras["transfer"], summary.extras["robustness"]):
        marked = set(table.loc[table["calibration"], "arm"]) - {"oracle_reference"}
        assert marked == known
        assert not table.loc[table["arm"].isin(["good", "harmful"]), "calibration"].any()
    # The base against itself is exactly 0, stands among them, and is compared with no arm.
    itself = summary.tests[(summary.tests["arm"] == "base") & (summary.tests["test"] == "sign_flip")]
    assert (itself["difference"] == 0).all() and itself["calibration"].all()
    assert not {"base", *known} & set(summary.extras["contrasts"][["arm", "other"]].to_numpy().ravel())


@pytest.mark.regression("EVA-22")
def test_every_arm_has_a_row_for_every_score_of_every_cell(experiment, gates, roles) -> None:
    evaluation, attacks = experiment[0].copy(), experiment[1]
    evaluation["chrf"] = np.where(evaluation["arm"] == "good", 0.5, np.nan)
    reference = evaluation["arm"] == "oracle_reference"
    evaluation = evaluation[~(reference & (evaluation["language"] == "ur"))]
    metrics = aggregate(evaluation, attacks, roles, gates, FAST).metrics
    counts = metrics.groupby(["language", "split", "metric"])["arm"].nunique()
    assert (counts == evaluation["arm"].nunique()).all()
    gaps = metrics[metrics["estimate"].isna()]
    assert (gaps["status"] == "failed").all() and (gaps["reason"] != "").all()
    absent = gaps[(gaps["arm"] == "oracle_reference") & (gaps["metric"] == "leak")]
    assert set(absent["language"]) == {"ur"} and (absent["reason"] == "not evaluated there").all()


def test_a_score_with_few_holes_is_measured_and_counts_them(experiment, gates, roles) -> None:
    evaluation = experiment[0].assign(chrf=0.5)
    evaluation.loc[evaluation["group"].str.endswith("001"), "chrf"] = np.nan
    rows = aggregate(evaluation, experiment[1], roles, gates, FAST).metrics
    chrf = pd.DataFrame(rows[rows["metric"] == "chrf"])
    assert (chrf["status"] == "measured").all() and (chrf["n_missing"] == 6).all()
