from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmie.errors import InputError
from mmie.io import read_json, write_json
from mmie.statistics.aggregate import aggregate
from mmie.statistics.hypotheses import check, declared, hypotheses
from mmie.statistics.options import Options

FAST = Options(experiment="planted", n_resamples=1000, attacks=("relearn",))


def test_hypotheses_follow_from_the_configuration_alone(gates, roles) -> None:
    content = hypotheses(roles, gates, FAST)
    assert content["families"] == {"efficacy": 4, "preservation": 14, "robustness": 2}
    left_out = {gate["name"]: gate["left_out"] for gate in content["gates"]}
    assert left_out["membership"] == "no membership attack in this experiment" and left_out["forget"] == ""
    assert content["options"]["alpha"] == 0.05
    turned = hypotheses(
        {role: languages[::-1] for role, languages in reversed(roles.items())},
        dict(reversed(gates.items())), FAST,
    )  # fmt: skip
    assert turned == content


@pytest.mark.parametrize("change", ["threshold", "level", "languages"])
def test_anything_that_decides_changes_the_hash(gates, roles, change: str) -> None:
    before = hypotheses(roles, gates, FAST)["hash"]
    options = FAST
    if change == "threshold":
        gates["forget"]["threshold"] = 0.4
    elif change == "level":
        options = Options(experiment="planted", n_resamples=1000, alpha=0.1, attacks=("relearn",))
    else:
        roles = {**roles, "neighbours": ["ur"]}
    assert hypotheses(roles, gates, options)["hash"] != before


@pytest.mark.regression("STA-19")
def test_effect_interval_detectable_effect_and_the_hash_stand_in_the_result(
    experiment, gates, roles, tmp_path: Path
) -> None:
    content = hypotheses(roles, gates, FAST)
    # Written before there are scores, then read back as the workflow does.
    content["declared"] = declared(content, None, (tmp_path / "eval").glob("*"))
    write_json(tmp_path / "hypotheses.json", content)
    written = read_json(tmp_path / "hypotheses.json")
    summary = aggregate(*experiment, roles, gates, FAST, hypotheses=written)
    assert summary.gates["hypotheses"] == {"hash": content["hash"], "declared": "before results"}
    tests = summary.tests.query("arm == 'good'")
    shown = tests[["estimate", "ci_low", "ci_high", "effect_dz", "detectable"]]
    moved = tests["largest_difference"] > 0
    assert shown.loc[moved].notna().all(axis=None) and (shown.loc[moved, "detectable"] > 0).all()


@pytest.mark.regression("STA-19")
def test_results_are_not_read_under_other_hypotheses_than_the_written_ones(experiment, gates, roles) -> None:
    written = json.loads(json.dumps({**hypotheses(roles, gates, FAST), "declared": "before results"}))
    gates["forget"]["threshold"] = 0.1
    with pytest.raises(InputError, match="gates differ from the configuration"):
        aggregate(*experiment, roles, gates, FAST, hypotheses=written)


def test_an_edited_file_is_refused(gates, roles) -> None:
    written = hypotheses(roles, gates, FAST)
    written["families"]["efficacy"] = 1
    with pytest.raises(InputError, match="the hash does not fit"):
        check(written, roles, gates, FAST)


@pytest.mark.regression("STA-19")
def test_hypotheses_that_follow_results_say_so(gates, roles, tmp_path: Path) -> None:
    content = hypotheses(roles, gates, FAST)
    assert declared(content, None, []) == "before results"
    assert declared(content, None, [tmp_path / "hi.parquet"]) == "after results"
    # The same hypotheses written again, as after an edit of the code, keep their date.
    earlier = {"hash": content["hash"], "declared": "before results"}
    assert declared(content, earlier, [tmp_path / "hi.parquet"]) == "before results"
    other = {"hash": "other", "declared": "before results"}
    assert declared(content, other, [tmp_path / "hi.parquet"]) == "after results"
