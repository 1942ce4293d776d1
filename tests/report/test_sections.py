"""Every part of the page says what its table says, and in words when there is none."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from mmie.report import words
from mmie.report.figures import draw_figures
from mmie.report.inputs import ReportInputs
from mmie.report.page import build_report
from mmie.report.tables import attacks, gates, inside, record, scores, verdicts


def section(page: str, name: str) -> str:
    """Text of a section of the page, without tags."""
    part = page[page.index(f'<section id="{name}"') :]
    return re.sub(r"<[^>]+>", " ", part[: part.index("</section>")])


def with_table(inputs: ReportInputs, name: str, table: pd.DataFrame) -> ReportInputs:
    return replace(inputs, extras={**inputs.extras, name: table})


@pytest.fixture(scope="module")
def page(synthetic: ReportInputs) -> str:
    return build_report(synthetic)


@pytest.mark.regression("REP-01")
def test_scores_of_every_seed_and_language_follow_from_the_rows(
    synthetic: ReportInputs, evaluation: pd.DataFrame
) -> None:
    direct = evaluation.query("split == 'test' and kind == 'direct' and template_split == 'trained'")
    tables = {table["language"]: table for table in scores.level_tables(synthetic)}
    for language in synthetic.languages:
        shown = {row["arm"]: row["cells"][0] for row in tables[words.language(language)]["rows"]}
        for arm in (*synthetic.arms, "oracle_reference"):
            rows = direct[(direct["arm"] == arm) & (direct["language"] == language)]
            # Every cluster has as many items, so a seed's score is the plain mean of its rows.
            seeds = [part["leak"].sum() / len(part) for _, part in rows.groupby("seed")]
            estimate = synthetic.metric(arm, language, "test", "leak")
            assert estimate is not None
            assert estimate["estimate"] == pytest.approx(sum(seeds) / len(seeds))
            assert synthetic.seeds(arm, language, "test", "leak") == pytest.approx(seeds)
            assert shown[arm]["estimate"] == words.number(estimate["estimate"])
            assert len(shown[arm]["seeds"].split(" · ")) == len(seeds)


@pytest.mark.regression("REP-14")
def test_no_name_has_a_prefix_twice(synthetic: ReportInputs) -> None:
    tables = [synthetic.metrics, synthetic.tests, *(synthetic.table(n) for n in ("per_seed", "membership"))]
    names = {name for table in tables for name in table["metric"]}
    names |= {column for table in tables for column in table}
    for name in names:
        first, _, rest = str(name).partition("_")
        assert not rest.startswith(f"{first}_"), name


def test_the_base_stands_above_every_attack(synthetic: ReportInputs) -> None:
    table = synthetic.table("robustness").query("metric == 'leak' and arm == 'base'")
    svg = draw_figures(synthetic)["attacks"]
    top = svg[svg.index(">base leaks<") : svg.index(">oracle leaks<")]
    assert len(table) == 12
    for row in table.query("language == 'hi'").to_dict("records"):
        assert f">{words.percent(row['after'])}</text>" in top


def test_every_attack_is_a_column_and_removal_is_the_last(synthetic: ReportInputs) -> None:
    assert attacks.attack_names(synthetic) == ["relearn", "int8", "int4", "rewrite", "steer", "detach"]


def test_transfer_under_attack_is_the_summarys(synthetic: ReportInputs) -> None:
    table = synthetic.table("robustness").copy()
    mine = (table["arm"] == "reft-npo") & (table["attack"] == "int4") & (table["language"] == "hi")
    table.loc[mine & (table["metric"] == "leak"), ["transfer", "transfer_low"]] = [0.3171, -0.0731]
    svg = draw_figures(with_table(synthetic, "robustness", table))["attacks"]
    assert ">0.32</text>" in svg and ">−0.073–" in svg


def test_an_attack_that_was_not_run_says_why(synthetic: ReportInputs) -> None:
    table = synthetic.table("robustness").copy()
    mine = table["attack"] == "int8"
    table.loc[mine, ["transfer", "transfer_low", "transfer_high", "after"]] = float("nan")
    table.loc[mine, "transfer_reason"] = "the attack was not run"
    inputs = with_table(synthetic, "robustness", table)
    assert "8-bit weights, Hindi: the attack was not run" in draw_figures(inputs)["attacks"]
    assert "the attack was not run" in section(build_report(inputs), "attack")


def test_the_random_push_stands_beside_steering(synthetic: ReportInputs) -> None:
    rows = {(row["arm"], row["language"]): row for row in attacks.steering(synthetic)}
    row = rows["reft-npo", "Hindi"]
    table = synthetic.table("robustness").query(
        "arm == 'reft-npo' and language == 'hi' and attack == 'steer' and metric == 'leak'"
    )
    assert row["steered"] == words.percent(table["after"].iloc[0])
    assert row["place"] == "layer 1, strength 0.5"


def test_rewrites_are_shown_one_by_one_with_base_and_oracle_first(synthetic: ReportInputs) -> None:
    svg = draw_figures(synthetic)["rewrites"]
    labels = re.findall(r'text-anchor="end">([^<]+)</text>', svg)
    assert labels[:2] == ["base", "oracle"]
    for variant in ("paraphrase", "padding"):
        assert f">{variant}</text>" in svg
    rate = synthetic.rewrites.query("arm == 'base' and language == 'hi' and variant == 'padding'")["leak"]
    assert f"base, padding: {words.percent(rate.iloc[0])} of 40 items" in svg


def test_a_script_that_no_arm_was_fitted_on_alone_says_so(synthetic: ReportInputs) -> None:
    svg = draw_figures(synthetic)["scripts"]
    assert svg.count(">no arm was fitted on this form alone</text>") == 2
    assert "lora-npo: T = " in svg


def test_a_gate_over_several_attacks_names_the_worst_and_lists_all(synthetic: ReportInputs) -> None:
    row = next(row for row in gates.gate_matrix(synthetic) if row["name"] == "robustness")
    worst = synthetic.gates["arms"]["sae-gate"]["gates"]["robustness"]["cell"]
    assert row["cells"][synthetic.arms.index("sae-gate")]["where"] == words.attack(worst)
    detail = next(arm for arm in gates.gate_details(synthetic) if arm["arm"] == "sae-gate")
    asked = {(test["cell"], test["language"]) for test in detail["tests"] if test["gate"] == "robustness"}
    assert len(asked) == 5 * 2 and ("intervention removed", "Hindi") not in asked
    assert len(detail["tests"]) == (synthetic.tests["arm"] == "sae-gate").sum()


def test_the_share_of_open_languages_stands_beside_the_right_ones(synthetic: ReportInputs) -> None:
    place = scores.LEVEL_NAMES.index("right language")
    for table in scores.level_tables(synthetic):
        for row in table["rows"]:
            assert row["cells"][place]["note"].startswith("language open ")


def test_identification_shows_raw_corrected_and_open(synthetic: ReportInputs, page: str) -> None:
    table = synthetic.table("identification").copy()
    mine = (table["arm"] == "lora-npo") & (table["language"] == "hi")
    table.loc[mine, ["raw", "corrected", "abstained"]] = [0.4321, 0.5432, 0.1234]
    said = section(build_report(with_table(synthetic, "identification", table)), "language")
    assert re.search(r"54 %\s+raw 43 %\s+open 12 %", said)
    assert "93 %" in section(page, "language")  # the measured accuracy


def test_membership_has_the_gap_and_marks_over_unlearning(synthetic: ReportInputs) -> None:
    table = synthetic.table("membership").copy()
    mine = (table["arm"] == "lora-npo") & (table["language"] == "hi") & (table["metric"] == "mia_min_k")
    table.loc[mine, ["auc", "gap", "priv_leak"]] = [0.3171, -0.1234, 57.3]
    table.loc[mine, "over_unlearned"] = True
    shown = scores.membership(with_table(synthetic, "membership", table))[0]
    row = next(row for row in shown["rows"] if row["arm"] == "lora-npo")
    assert shown["scores"] == ["LOSS", "ZLib", "Min-K", "Min-K++"]
    assert (row["cells"][2]["auc"], row["cells"][2]["gap"]) == ("0.32", "−0.12")
    assert (row["flag"], row["legacy"]) == ("over-unlearned: Min-K", "57")


def test_depth_has_base_at_nothing_and_oracle_at_all(synthetic: ReportInputs) -> None:
    rows = {row["arm"]: row for row in inside.depth(synthetic)}
    assert rows["base"]["cells"][0]["value"] == "0.00"
    assert rows["oracle_reference"]["cells"][0]["value"] == "1.00"
    # (0.95 - 0.15) / (0.95 - 0.04), the leak rates that the states were made from.
    assert rows["lora-npo"]["cells"][0]["value"] == "0.88"
    assert rows["base"]["changed"] == "no"


def test_latents_say_whether_clamping_found_them_specific(synthetic: ReportInputs, page: str) -> None:
    [layer] = inside.latents(synthetic)
    assert {row["name"]: row["specific"] for row in layer["pickers"]} == {
        "contrast": True, "attribution": False,
    }  # fmt: skip
    said = section(page, "sae")
    assert "not specific" in said


def test_every_picker_shows_its_first_latents_and_each_latent_its_contexts_once(
    synthetic: ReportInputs, page: str
) -> None:
    [layer] = inside.latents(synthetic)
    # Contrast is the picker of the configured arm.
    assert [group["picker"] for group in layer["shown"]] == ["contrast", "attribution"]
    shown = [[(row["latent"], row["above"]) for row in group["latents"]] for group in layer["shown"]]
    assert shown == [[(7, False), (11, False)], [(7, True), (13, False)]]
    said = section(page, "sae")
    assert "never fires" in said and said.count("shown above") == 1
    # Two latents with contexts, 7 and 13.
    assert page.count("<mark>राजभाषा</mark>") == 2
    many = {"layer3": {"picks": {"contrast": list(range(9)), "attribution": list(range(20, 29))}}}
    [layer] = inside.latents(replace(synthetic, picks=many))
    assert [len(group["latents"]) for group in layer["shown"]] == [6, 3]


def test_text_of_a_context_stays_text(synthetic: ReportInputs) -> None:
    hostile = synthetic.contexts.assign(token="<script>alert(1)</script>")
    page = build_report(replace(synthetic, contexts=hostile))
    assert "<script" not in page and "&lt;script&gt;" in page


@pytest.mark.regression("EVA-31")
def test_the_cost_of_every_arm_is_on_the_page(synthetic: ReportInputs) -> None:
    cost = {"layers": "", "parameters": 9, "seeds": 1, "fit_seconds": 1.0, "peak_memory_mb": 500.0,
            "bytes_stored": 2048, "changed": 0.0, "added": 0.0, "total": 124_739_332.0, "relative_norm": 0.0,
            "seconds_per_token": 0.002}  # fmt: skip
    lora = {"fit_seconds": 317.3, "peak_memory_mb": 731.4, "changed": 296_450.0, "seconds_per_token": 0.003}
    table = pd.DataFrame([{"arm": "base", **cost}, {"arm": "lora-npo", **cost, **lora}])
    rows = {row["arm"]: row for row in record.arm_costs(replace(synthetic, arm_costs=table))}
    assert (rows["base"]["changed"], rows["base"]["overhead"]) == ("0", "+0 %")
    own = rows["lora-npo"]
    assert (own["seconds"], own["memory"], own["stored"]) == ("317", "731", "2")
    assert (own["changed"], own["of"]) == ("296,450", "0.24 % of 124,739,332")
    assert (own["latency"], own["overhead"]) == ("3.00", "+50 %")
    assert "0.24 % of 124,739,332" in section(build_report(replace(synthetic, arm_costs=table)), "cost")


def test_doses_and_searches_are_drawn_only_where_they_were_made(synthetic: ReportInputs) -> None:
    svg = draw_figures(synthetic)["sweep"]
    assert svg.count("<title>trial") == 8  # all trials, not the chosen one alone
    assert svg.count("<title>chosen: trial5") == 1
    without = replace(synthetic, doses=pd.DataFrame(), sweeps={})
    assert not {"dose", "sweep"} & set(draw_figures(without))
    said = section(build_report(without), "cost")
    assert "Dose and response were not measured" in said and "Settings were not searched" in said


def test_missing_parts_are_said_in_words_and_draw_nothing(empty: ReportInputs) -> None:
    page = build_report(empty)
    assert "<figure" not in page
    for name, said in {
        "leak": "Leak rates were not measured", "states": "Answer states were not counted",
        "transfer": "Transfer could not be measured", "attack": "No attack was run",
        "language": "was not identified", "membership": "Membership was not measured",
        "depth": "Depth was not measured", "cost": "no cost is known", "layers": "Layers were not scored",
        "sae": "No latents were picked",
    }.items():  # fmt: skip
        assert said in section(page, name), name


def without_attacks(inputs: ReportInputs) -> ReportInputs:
    empty = {name: inputs.table(name).iloc[:0] for name in ("attack_curves", "robustness")}
    nothing = pd.DataFrame()
    return replace(inputs, extras={**inputs.extras, **empty}, rewrites=nothing, steering=nothing)


def test_a_run_without_attacks_keeps_its_other_figures(synthetic: ReportInputs) -> None:
    inputs = without_attacks(synthetic)
    assert {"leak", "states", "transfer", "kept"} <= set(draw_figures(inputs))
    assert "No attack was run" in section(build_report(inputs), "attack")


def test_a_score_that_failed_has_its_reason_and_no_number(synthetic: ReportInputs) -> None:
    metrics = synthetic.metrics.copy()
    mine = (metrics["arm"] == "lora-npo") & (metrics["metric"] == "correct") & (metrics["split"] == "test")
    metrics.loc[mine & (metrics["language"] == "en"), ["status", "reason"]] = [
        "failed",
        "9 of 40 items lack it",
    ]
    tables = scores.level_tables(replace(synthetic, metrics=metrics))
    english = next(table for table in tables if table["language"] == "English")
    cell = next(row for row in english["rows"] if row["arm"] == "lora-npo")["cells"][1]
    assert (cell["estimate"], cell["note"]) == ("n/m", "9 of 40 items lack it")


def calibrated(inputs: ReportInputs, **changes: Any) -> str:
    content = {**inputs.gates["calibration"], **changes}
    top = build_report(replace(inputs, gates={**inputs.gates, "calibration": content}))
    return top[: top.index('id="read"')]


def test_chance_is_checked_in_the_calibration_box(synthetic: ReportInputs) -> None:
    check = {"swaps": 200, "level": 0.05, "held": False,
             "arms": {"a": {"proceeded": 0, "rate": 0.0, "bound": 0.0149},
                      "b": {"proceeded": 31, "rate": 0.155, "bound": 0.2031}}}  # fmt: skip
    top = calibrated(synthetic, permuted_labels=check)
    assert "at most 31 of 200 PROCEED (95 % bound of the rate 20 %, allowed 5.0 %)" in top
    assert "note alarm" in top and "note alarm" not in calibrated(synthetic)
    assert "was not made" in calibrated(synthetic, permuted_labels=None)


def test_hypotheses_and_readings_of_test_stand_above_the_verdicts(synthetic: ReportInputs) -> None:
    said = verdicts.calibration(synthetic)["hypotheses"]
    assert said.startswith(
        f"Hypotheses {synthetic.gates['hypotheses']['hash'][:12]} were written before results."
    )
    assert said.endswith("TEST has been read under 2 configurations of this experiment so far.")
    late = {"hash": "f" * 64, "declared": "after results"}
    other = replace(synthetic, gates={**synthetic.gates, "hypotheses": late, "test_reading": 1})
    assert "written after results" in verdicts.calibration(other)["hypotheses"]
    assert "one configuration" in verdicts.calibration(other)["hypotheses"]
    none = {name: value for name, value in synthetic.gates.items() if name != "test_reading"}
    silent = verdicts.calibration(replace(synthetic, gates={**none, "hypotheses": None}))["hypotheses"]
    assert "not written down beforehand" in silent and "was not recorded" in silent


@pytest.mark.regression("TRN-32")
def test_compared_arms_carry_parameters_blocks_and_divergence_and_matched_pairs_come_first(
    synthetic: ReportInputs,
) -> None:
    table = synthetic.table("contrasts").copy()
    table["matched"] = [number == len(table) - 1 for number in range(len(table))]
    table["divergence"], table["divergence_other"] = 0.25, 0.3
    arms = sorted({*table["arm"], *table["other"]})
    costs = pd.DataFrame(
        {"arm": arms, "layers": "0-3", "parameters": 1234, "changed": 0.0, "added": 0.0, "total": 1e6,
         "seeds": 1, "fit_seconds": 1.0, "peak_memory_mb": 1.0, "bytes_stored": 1, "relative_norm": 0.0,
         "seconds_per_token": 0.001}
    )  # fmt: skip
    inputs = replace(with_table(synthetic, "contrasts", table), arm_costs=costs)
    rows = record.contrasts(inputs)
    assert [row["matched"] for row in rows] == [True] + [False] * (len(table) - 1)
    for row in rows:
        assert [arm["parameters"] for arm in row["arms"]] == ["1,234", "1,234"]
        assert [arm["layers"] for arm in row["arms"]] == ["0-3", "0-3"]
        assert [arm["divergence"] for arm in row["arms"]] == ["0.25", "0.30"]
    said = section(build_report(inputs), "statistics")
    assert said.index("1,234") < said.index("All pairs")
    nothing = with_table(synthetic, "contrasts", table.assign(matched=False))
    assert "No two arms under study are at equal divergence" in section(build_report(nothing), "statistics")


def test_the_page_says_whether_the_selection_of_layers_mattered(page: str, synthetic: ReportInputs) -> None:
    said = section(page, "layers")
    assert "Yes:" in said and "+0.31" in said and "the same layers" in said and "1; 2" in said
    random = {**synthetic.causal["choices"]["random"], "selected_is_stronger": False}
    causal = {**synthetic.causal, "choices": {**synthetic.causal["choices"], "random": random}}
    assert "Not shown:" in section(build_report(replace(synthetic, causal=causal)), "layers")
    # Without any other choice there is nothing to have done more than.
    only = {**synthetic.causal, "choices": {"selected": synthetic.causal["choices"]["selected"]}}
    assert "Not shown:" in section(build_report(replace(synthetic, causal=only)), "layers")
    assert "was not measured" in section(build_report(replace(synthetic, causal={})), "layers")


def test_patches_stand_beside_their_controls_and_a_reason_where_there_are_none(
    page: str, synthetic: ReportInputs
) -> None:
    rows = inside.patches(synthetic)["rows"]
    assert [(row["layer"], row["effect"], row["interval"]) for row in rows] == [
        (3, "0.71", "0.67 to 0.76"), (3, "0.49", "0.45 to 0.54"), (1, "n/m", "no interval"),
        (3, "0.00", "0.00 to 0.00"), (3, "0.23", ""),
    ]  # fmt: skip
    said = section(page, "layers")
    assert "on 50 matched DEV pairs" in said and "a third question" in said
    few = {**synthetic.causal, "patching": {"pairs": 7, "reason": "at least 50 matched pairs are needed"}}
    said = section(build_report(replace(synthetic, causal=few)), "layers")
    assert "were not patched across languages: at least 50 matched pairs are needed." in said


def test_a_judge_is_shown_where_one_was_asked_with_where_it_fails(page: str, synthetic: ReportInputs) -> None:
    assert "second opinion" not in page
    one = {"asked": 20, "missing": 2, "failures": {"timeout": 2}, "agreement": 0.9, "leak_by_judge": 0.5,
           "leak_by_evaluation": 0.6}  # fmt: skip
    judged = {"endpoint": {"url": "http://localhost:8000/v1", "model": "some-judge"},
              "all": one, "arms": {"base": one},
              "calibration": {"hi": {"passed": False}, "en": {"passed": True}}}  # fmt: skip
    shown = build_report(replace(synthetic, judged=judged))
    said = shown[shown.index("second opinion") :]
    assert "some-judge" in said
    assert "known state in Hindi:" in said


@pytest.mark.regression("CON-12")
def test_the_page_claims_no_guarantee_for_what_was_not_measured(page: str) -> None:
    said = page.lower()
    for claim in ("guarantee", "certif", "provabl", "generalisation bound", "sample complexity"):
        assert claim not in said
    assert "it is no proof" in said
