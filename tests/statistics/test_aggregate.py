from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from mmie.errors import InputError
from mmie.io import read_json, write_json
from mmie.statistics.aggregate import aggregate
from mmie.statistics.options import Options

FAST = Options(experiment="planted", n_resamples=1000)


def test_the_order_of_rows_arms_and_languages_changes_nothing(
    experiment, summary, gates, roles, options
) -> None:
    evaluation, attacks = (
        table.sample(frac=1.0, random_state=5).reset_index(drop=True) for table in experiment
    )
    turned = {role: list(reversed(languages)) for role, languages in roles.items()}
    again = aggregate(evaluation, attacks, turned, gates, options)
    assert_frame_equal(again.metrics, summary.metrics, check_exact=True)
    assert_frame_equal(again.tests, summary.tests, check_exact=True)
    assert json.dumps(again.gates) == json.dumps(summary.gates)
    for name, table in summary.extras.items():
        if isinstance(table, pd.DataFrame):
            assert_frame_equal(again.extras[name], table, check_exact=False, rtol=1e-12)


def test_metrics_hold_the_promised_columns_once_a_key(summary) -> None:
    promised = ["arm", "language", "split", "metric", "estimate", "ci_low", "ci_high", "n_seeds",
                "n_items", "direction"]  # fmt: skip
    assert set(promised) <= set(summary.metrics.columns)
    assert not summary.metrics.duplicated(["arm", "language", "split", "metric"]).any()
    assert set(summary.metrics["split"]) == {"dev", "test", "mixed"}
    assert "oracle_reference" in set(summary.metrics["arm"])


def test_an_estimate_is_the_mean_over_seeds_clusters_and_items(summary, experiment) -> None:
    rows = experiment[0].query("arm == 'good' and language == 'hi' and split == 'test' and kind == 'direct'")
    by_hand = rows.groupby(["seed", "group"])["leak"].mean().groupby("seed").mean()
    found = summary.metrics.query(
        "arm == 'good' and language == 'hi' and split == 'test' and metric == 'leak'"
    ).iloc[0]
    assert found["estimate"] == pytest.approx(by_hand.mean())
    assert found["ci_low"] < found["estimate"] < found["ci_high"]
    assert (found["n_seeds"], found["n_items"], found["ci_method"]) == (3, 180, "bca")
    seeds = summary.extras["per_seed"].query(
        "arm == 'good' and language == 'hi' and split == 'test' and metric == 'leak'"
    )
    assert seeds["estimate"].to_numpy() == pytest.approx(by_hand.to_numpy())


def test_direction_is_success_on_forget_languages_and_no_change_on_kept_ones(summary) -> None:
    rows = summary.metrics.query("arm == 'base' and split == 'test'")
    found = rows.set_index(["language", "metric"])["direction"]
    assert found["hi", "leak"] == "down" and found["en", "leak"] == "hold"
    assert found["hi", "bits_per_byte"] == "up" and found["hi", "gibberish"] == "hold"


def test_a_score_missing_for_some_items_is_counted_not_filled(experiment, gates, roles) -> None:
    evaluation, attacks = experiment[0].copy(), experiment[1]
    first = evaluation["group"].str.endswith("001")
    evaluation["chrf"] = np.where(first, np.nan, 0.5)
    evaluation["target_language"] = np.nan
    metrics = aggregate(evaluation, attacks, roles, gates, FAST).metrics
    chrf = metrics[metrics["metric"] == "chrf"]
    assert (chrf["estimate"] == 0.5).all() and (chrf["n_missing"] == 6).all()
    empty = metrics[metrics["metric"] == "target_language"]
    assert empty["estimate"].isna().all() and (empty["n_items"] == 0).all()
    assert (empty["reason"] == "no item has this score").all()


def test_answer_states_sum_to_one(summary) -> None:
    states = summary.extras["answer_states"]
    sums = states.groupby(["arm", "language", "split"])["rate"].sum()
    assert sums.to_numpy() == pytest.approx(1.0)


def test_transfer_is_zero_for_the_base_one_for_the_reference_and_missing_where_both_know(
    summary,
) -> None:
    table = summary.extras["transfer"].query("metric == 'leak' and split == 'test'")
    found = table.set_index(["arm", "language"])["estimate"]
    assert found["base", "hi"] == 0 and found["oracle_reference", "hi"] == 1
    assert found["oracle", "hi"] == pytest.approx(1, abs=0.05)
    kept = table[table["language"].isin(["en", "ur"])]
    assert kept["estimate"].isna().all()
    assert kept["reason"].str.startswith("nothing to forget").all()


@pytest.mark.regression("STA-18")
def test_every_arm_is_gated_and_arms_under_study_are_compared(summary, experiment) -> None:
    arms = set(experiment[0]["arm"]) - {"oracle_reference"}
    assert set(summary.gates["arms"]) == arms
    expected = {"forget", "scripts", "mixed", "utility", "bits", "neighbours", "collapse",
                "confusion", "relearning"}  # fmt: skip
    assert all(set(entry["gates"]) == expected for entry in summary.gates["arms"].values())
    pairs = summary.extras["contrasts"][["arm", "other"]].drop_duplicates()
    assert pairs.to_numpy().tolist() == [["good", "harmful"]]
    assert len(summary.extras["contrasts"]) == 4  # forget, scripts, mixed in two scripts


def test_attack_curves_keep_the_base_as_control(summary) -> None:
    curves = summary.extras["attack_curves"]
    base = curves.query("arm == 'base' and language == 'hi'")
    assert base["step"].tolist() == [0, 10, 50] and base["estimate"].min() > 0.9
    assert {"oracle", "oracle_reference", "good"} <= set(curves["arm"])


def test_power_is_stated_for_every_efficacy_cell(summary) -> None:
    power = summary.extras["power"]
    assert power["gate"].tolist() == ["forget", "scripts", "mixed", "mixed"]
    assert not power["refused"].any() and (power["detectable"] > 0).all()


def test_gates_survive_json(summary, tmp_path: Path) -> None:
    write_json(tmp_path / "gates.json", summary.gates)
    gate = read_json(tmp_path / "gates.json")["arms"]["good"]["gates"]["forget"]
    promised = {"passed", "estimate", "ci_low", "ci_high", "threshold", "p", "q", "reason"}
    assert promised <= set(gate) and gate["passed"] is True


def test_tests_survive_parquet(summary, tmp_path: Path) -> None:
    for name, table in {"tests": summary.tests, "metrics": summary.metrics,
                        **summary.extras}.items():  # fmt: skip
        if isinstance(table, pd.DataFrame):
            table.to_parquet(tmp_path / f"{name}.parquet")
            assert_frame_equal(pd.read_parquet(tmp_path / f"{name}.parquet"), table)


@pytest.mark.regression("EVA-04")
def test_an_arm_that_skipped_a_language_is_not_compared(experiment, gates, roles) -> None:
    evaluation, attacks = experiment
    skipped = evaluation[(evaluation["arm"] != "good") | (evaluation["language"] != "ur")]
    with pytest.raises(InputError, match=r"ur, dev: no rows of arm 'good'"):
        aggregate(skipped, attacks, roles, gates, FAST)


def test_without_a_base_there_is_nothing_to_compare_with(experiment, gates, roles) -> None:
    evaluation, attacks = experiment
    with pytest.raises(InputError, match="no rows of 'base'"):
        aggregate(evaluation[evaluation["arm"] != "base"], attacks, roles, gates, FAST)


def test_margins_computed_beforehand_are_used(experiment, gates, roles) -> None:
    margins = {"utility": {"preset": 0.05, "used": 0.9}}
    result = aggregate(*experiment, roles, gates, FAST, margins=margins).gates
    assert result["arms"]["harmful"]["gates"]["utility"]["margin"] == 0.9
    assert result["arms"]["harmful"]["gates"]["utility"]["passed"]
    assert result["margins"] == margins


@pytest.mark.regression("STA-03")
def test_the_verdict_needs_no_optional_package(experiment, summary, tmp_path: Path) -> None:
    for name, table in zip(("evaluation", "attacks"), experiment, strict=True):
        table.to_parquet(tmp_path / f"{name}.parquet")
    script = f"""
import sys
from importlib.abc import MetaPathFinder
hidden = "torch statsmodels pingouin sklearn numba bottleneck numexpr".split()
class Hide(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in hidden:
            raise ImportError(name)
sys.meta_path.insert(0, Hide())
sys.path.insert(0, {str(Path(__file__).parent)!r})
import json, pandas as pd, conftest
tables = [pd.read_parquet({str(tmp_path)!r} + f"/{{n}}.parquet") for n in ("evaluation", "attacks")]
found = conftest.aggregate(*tables, conftest.ROLES, conftest.gate_table(), conftest.OPTIONS)
print(json.dumps(found.gates["arms"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(summary.gates["arms"]))
