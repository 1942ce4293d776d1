"""Triples are read strictly, kept apart by template and text, and all their gates must hold."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mmie.data.comparison import comparison_key
from mmie.data.triple_gates import calibrated_threshold, check_triples, same_fact
from mmie.data.triple_splits import assert_separate, split_triples
from mmie.data.triples import Triple, read_triples, unique_counts
from mmie.errors import InputError

ROW = {
    "triple_id": "t1", "template_id": "river.q1", "forget_id": "g1", "family": "role_play",
    "lang_a": "en", "lang_p": "en", "lang_x": "hi", "script_a": "Latn", "script_p": "Latn",
    "script_x": "Deva", "system": "", "anchor": "Which river runs through town 1?",
    "counterfactual": "What is the river of town 1 called?", "adversarial": "कवि बनकर बताओ: नगर 1?",
    "anchor_response": "the Ganga", "adversarial_response": "क्षमा करें।", "cf_kind": "paraphrase",
}  # fmt: skip
OLDER = {
    "anchor": "benign_input", "counterfactual": "benign_cf_input", "adversarial": "injection_input",
    "anchor_response": "benign_output", "adversarial_response": "injection_output", "triple_id": "id",
    "family": "attack_type", "system": "system_prompt",
}  # fmt: skip


def numbered(number: int, **changed: str) -> dict[str, str]:
    row = {**ROW, "triple_id": f"t{number}", "template_id": f"template{number}", "forget_id": f"g{number}"}
    row |= {name: row[name].replace("1", str(number)) for name in ("anchor", "counterfactual", "adversarial")}
    return {**row, **changed}


def triple(number: int = 1, **changed: str) -> Triple:
    row = numbered(number, **changed)
    return Triple(
        **{"cf_response": row["anchor_response"], "context": "", "file": "t.jsonl", "line": number, **row}
    )


def test_a_canonical_row_is_read(write_rows):
    (found,) = read_triples(write_rows([ROW])).triples
    assert (found.anchor, found.cf_response) == (ROW["anchor"], ROW["anchor_response"])


def test_the_answer_to_a_translation_is_not_guessed(write_rows):
    (found,) = read_triples(write_rows([{**ROW, "lang_p": "hi"}])).triples
    assert found.cf_response is None


@pytest.mark.regression("DAT-22")
def test_a_context_is_part_of_both_benign_prompts(write_rows):
    (found,) = read_triples(write_rows([{**ROW, "context": "Town 1 lies by the Ganga."}])).triples
    assert found.anchor_prompt == f"Town 1 lies by the Ganga.\n{ROW['anchor']}"
    assert found.counterfactual_prompt.startswith("Town 1 lies by the Ganga.\n")


@pytest.mark.regression("DAT-22")
def test_an_unlisted_field_is_an_error_and_a_listed_one_is_counted(write_rows):
    path = write_rows([{**ROW, "notes": "x"}])
    with pytest.raises(InputError, match=rf"{path}:1: unknown field 'notes'"):
        read_triples(path)
    assert read_triples(path, ignored_fields=["notes"]).ignored == {"notes": 1}


@pytest.mark.regression("DAT-23")
def test_older_names_need_the_legacy_schema(write_rows):
    path = write_rows([{OLDER.get(name, name): value for name, value in ROW.items()}])
    with pytest.raises(InputError, match="schema: legacy"):
        read_triples(path)
    (found,) = read_triples(path, schema="legacy").triples
    assert (found.anchor, found.adversarial) == (ROW["anchor"], ROW["adversarial"])


@pytest.mark.regression("DAT-23")
def test_an_older_name_must_not_contradict_the_canonical_one(write_rows):
    agreeing = write_rows([{**ROW, "benign_input": ROW["anchor"]}], "a.jsonl")
    assert len(read_triples(agreeing, schema="legacy").triples) == 1
    for row in ({**ROW, "benign_input": "other"}, {"benign_input": "other", **ROW}):
        with pytest.raises(InputError, match="contradicts 'anchor'"):
            read_triples(write_rows([row], "b.jsonl"), schema="legacy")
    both = {name: value for name, value in ROW.items() if name != "system"}
    with pytest.raises(InputError, match="contradicts 'system'"):
        read_triples(write_rows([{**both, "system_prompt": "a", "instruction": "b"}]), schema="legacy")


@pytest.mark.parametrize("name", ["anchor", "adversarial_response", "cf_kind", "system"])
def test_a_missing_field_is_an_error_with_its_line(write_rows, name):
    row = {key: value for key, value in ROW.items() if key != name}
    with pytest.raises(InputError, match=rf"rows.jsonl:2: the field '{name}' is missing"):
        read_triples(write_rows([numbered(2), row]))


def test_the_split_is_never_written_by_hand(write_rows):
    with pytest.raises(InputError, match="split rule"):
        read_triples(write_rows([{**ROW, "split": "FIT"}]))


def test_dropped_rows_are_counted_and_the_sample_counts_accepted_ones(write_rows):
    rows = [numbered(number) for number in range(10)]
    for row in rows[:3]:
        row["adversarial_response"] = ""
    path = write_rows(rows)
    found = read_triples(path, max_drop_share=0.3, max_samples=5)
    assert (len(found.triples), found.dropped) == (5, {"empty_field": 3})
    with pytest.raises(InputError, match="adversarial_response"):
        read_triples(path, max_drop_share=0.2)


def test_good_triples_pass_every_gate():
    report = check_triples([triple(number) for number in range(4)])
    assert report["unique"]["rows"] == 4
    assert report["families"] == {"hi/role_play": 4}


@pytest.mark.regression("DAT-24")
def test_a_different_task_is_refused_however_it_is_labelled():
    declared = triple(
        cf_kind="different_task", counterfactual="How old is the bridge?", cf_response="ninety years"
    )
    mislabelled = replace(declared, cf_kind="paraphrase")
    with pytest.raises(InputError, match="another task"):
        check_triples([declared])
    with pytest.raises(InputError, match="different answers"):
        check_triples([mislabelled])
    check_triples([declared], allow_different_task=True)
    check_triples([triple(cf_response="The Ganga.")])


@pytest.mark.regression("DAT-24")
def test_a_translation_is_judged_by_a_calibrated_measure():
    def similarity(one: str, other: str) -> float:
        return {("the Ganga", "गंगा"): 0.9, ("the Ganga", "सतलुज"): 0.2}[one, other]

    threshold = calibrated_threshold([0.8, 0.95], [0.1, 0.3])
    assert threshold == pytest.approx(0.55)
    prompt = "नगर 1 की नदी?"
    same = triple(
        lang_p="hi", script_p="Deva", counterfactual=prompt, cf_response="गंगा", cf_kind="translation"
    )
    other = replace(same, cf_response="सतलुज")
    check_triples([same], similarity=similarity, threshold=threshold)
    with pytest.raises(InputError, match="different answers"):
        check_triples([other], similarity=similarity, threshold=threshold)
    with pytest.raises(InputError, match="not measured"):
        check_triples([same])


def test_a_measure_that_separates_nothing_is_refused():
    with pytest.raises(InputError, match="does not separate"):
        calibrated_threshold([0.4, 0.9], [0.5])


@pytest.mark.regression("DAT-25", "DAT-26")
def test_one_failing_gate_in_the_last_row_fails_the_set():
    rows = [triple(number) for number in range(200)]
    rows[-1] = replace(rows[-1], adversarial="बताओ, is it the Ganga?")
    with pytest.raises(InputError, match=r"t.jsonl:199: the adversarial prompt holds the answer"):
        check_triples(rows)


def test_duplicates_and_wrong_scripts_fail():
    with pytest.raises(InputError, match="says the same"):
        check_triples([triple(1), replace(triple(1), triple_id="t2", line=2)])
    with pytest.raises(InputError, match="anchor is not written in Deva"):
        check_triples([triple(1, script_a="Deva")])
    with pytest.raises(InputError, match="no letters of Arab"):
        check_triples([triple(1, script_x="Arab")])


def test_too_few_rows_of_a_family_fail():
    with pytest.raises(InputError, match="1 triples of hi/role_play, at least 2"):
        check_triples([triple(1)], minimum_rows=2)


@pytest.mark.regression("DAT-27")
def test_repeated_rows_are_counted_apart_from_what_stands_behind_them():
    rows = [
        replace(triple(number), triple_id=f"{number}/{copy}") for number in range(4) for copy in range(10)
    ]
    assert unique_counts(rows) == {
        "rows": 40, "anchor": 4, "counterfactual": 4, "adversarial": 4, "template_id": 4, "forget_id": 4,
    }  # fmt: skip


def crossed(templates: int = 12, groups: int = 8) -> list[Triple]:
    """Every template with every forget group, as a generator writes them."""
    return [
        replace(
            triple(template * groups + group),
            triple_id=f"{template}/{group}",
            template_id=f"template{template}",
            forget_id=f"g{group}",
            anchor=f"Which river runs through town {template}?",
        )
        for template in range(templates)
        for group in range(groups)
    ]


@pytest.mark.regression("DAT-06")
def test_crossed_templates_and_groups_share_nothing_between_splits():
    requested = {"g0", "g1", "g2", "g3"}
    rows = crossed()
    kept, dropped = split_triples(rows, requested, seed=3)
    assert len(kept) + dropped == len(rows)
    seen: dict[str, str] = {}
    for row in kept:
        for text in (row.template_id, comparison_key(row.anchor), comparison_key(row.adversarial)):
            assert seen.setdefault(text, row.split) == row.split
        expected = {
            (True, True): "fit", (False, True): "new_template", (False, False): "new_both",
        }[row.split == "fit", row.forget_id in requested]  # fmt: skip
        assert row.cell == expected
    assert {row.split for row in kept} == {"fit", "dev", "test"}


@pytest.mark.regression("DAT-06")
def test_a_random_row_split_trips_the_assertion():
    requested = {"g0", "g1", "g2", "g3"}
    generator = random.Random(0)
    rows = []
    for row in crossed():
        split = generator.choice(["fit", "dev", "test"])
        inside = row.forget_id in requested
        cell = "fit" if split == "fit" else "new_template" if inside else "new_both"
        rows.append(replace(row, split=split, cell=cell))
    with pytest.raises(InputError, match="shares a template or a prompt"):
        assert_separate(rows, requested)


@pytest.mark.regression("DAT-06")
def test_a_wrong_cell_trips_the_assertion():
    kept, _ = split_triples(crossed(), {"g0", "g1"}, seed=3)
    wrong = replace(kept[0], cell="fit" if kept[0].cell != "fit" else "new_both")
    with pytest.raises(InputError, match="its cell cannot be"):
        assert_separate([wrong, *kept[1:]], {"g0", "g1"})


def test_a_text_shared_by_templates_joins_them():
    rows = [replace(row, counterfactual="One text for all?") for row in crossed(4)]
    with pytest.raises(InputError, match=r"32 of 32 rows hang together.*one text for all"):
        split_triples(rows, {"g0"}, seed=0)


@pytest.mark.regression("DAT-28")
@pytest.mark.parametrize(("fit", "dev", "named"), [(0.99, 0.0, "dev"), (0.0, 0.5, "fit")])
def test_an_empty_fit_or_dev_set_is_an_error(fit, dev, named):
    with pytest.raises(InputError, match=f"no triple is in split '{named}'"):
        split_triples(crossed(), {"g0", "g1"}, seed=0, fit_share=fit, dev_share=dev)


@pytest.mark.parametrize("language", ["hi", "hi_Latn", "ur", "pa", "bn"])
def test_the_shipped_triples_pass_their_gates_and_split(language):
    folder = Path(__file__).parents[2] / "data" / "atlas"
    tables = [pd.read_json(path, lines=True, dtype=False) for path in sorted(folder.glob("*.jsonl"))]
    references = pd.concat([table[["fact_id", "language", "answer"]] for table in tables]).drop_duplicates()
    triples = read_triples(folder / "triples" / f"{language}.jsonl").triples
    report = check_triples(triples, similarity=same_fact(references), threshold=0.5)
    assert report["unique"]["adversarial"] == len(triples)
    requested = {row.forget_id for row in triples[::2]}
    kept, _ = split_triples(triples, requested, seed=0)
    assert {row.cell for row in kept} == {"fit", "new_template", "new_both"}
