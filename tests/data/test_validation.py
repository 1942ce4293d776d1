"""One language: what is malformed stops the stage, what is unusable is counted, the rest is split."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow
import pytest

from mmie.data.options import DataOptions
from mmie.data.validation import COLUMNS, validate_language
from mmie.errors import InputError
from mmie.io import read_parquet, write_parquet
from mmie.statistics.bootstrap import draw

ROOT = Path(__file__).parents[2]


def content(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop(columns=["file", "line"])


def test_rows_have_the_columns_that_every_stage_reads(write_rows, facts):
    rows, report = validate_language([write_rows(facts("hi"))], "hi")
    assert list(rows.columns) == list(COLUMNS)
    assert report["counts"] == {"read": 40, "rejected": 0, "sampled_out": 0, "kept": 40}
    assert set(rows["script"]) == {"Deva"}
    assert rows["line"].dtype == "int64"
    assert set(rows["split"]) == {"fit", "dev", "test"}


def test_a_plain_corpus_needs_only_text(write_rows):
    texts = [{"text": f"The number {number} has a name and is larger than others."} for number in range(40)]
    rows, report = validate_language([write_rows(texts)], "en")
    assert report["files"][0]["schema"] == "text"
    assert (rows["group"] == rows["example_id"]).all()
    assert rows["prompt"].str.startswith("The number").all()


@pytest.mark.regression("DAT-01")
@pytest.mark.parametrize(
    "bad", ['{"prompt": ', {"prompt": "p", "answer": "a", "extra": "e"}, {"prompt": "no answer"}]
)
def test_one_malformed_line_stops_the_stage_and_is_named(write_rows, facts, bad):
    rows = facts("en")
    path = write_rows([*rows[:16], bad, *rows[16:]])
    with pytest.raises(InputError, match=rf"{path}:17: "):
        validate_language([path], "en", DataOptions(max_drop_share=1.0))


@pytest.mark.regression("DAT-02")
def test_a_wrong_byte_stops_the_stage_and_nothing_is_loaded(write_rows, facts):
    path = write_rows(facts("en"))
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2].replace(b"river", b"riv\xe8re", 1)
    path.write_bytes(b"\n".join(lines))
    byte = path.read_bytes().index(b"\xe8")
    with pytest.raises(InputError, match=rf"{path}:3: invalid UTF-8 at byte {byte}"):
        validate_language([path], "en", DataOptions(max_drop_share=1.0))


@pytest.mark.regression("DAT-02")
def test_a_file_with_a_byte_order_mark_loads(write_rows, facts):
    path = write_rows(facts("en"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(validate_language([path], "en")[0]) == 40


def test_all_malformed_lines_are_shown_together_up_to_twenty(write_rows, facts):
    path = write_rows(["no json"] * 30 + facts("en"))
    with pytest.raises(InputError) as error:
        validate_language([path], "en")
    lines = str(error.value).split("\n")
    assert len(lines) == 21
    assert "10 more" in lines[-1]


@pytest.mark.regression("DAT-03")
def test_the_limit_counts_accepted_rows_and_the_counts_are_exact(write_rows, facts):
    bad = [{"id": f"bad{number}", "prompt": "asked", "answer": " "} for number in range(3)]
    path = write_rows([*bad, *facts("en", 7)])
    options = DataOptions(max_drop_share=0.3, max_rows=5, minimum_rows=1)
    rows, report = validate_language([path], "en", options)
    assert len(rows) == 5
    assert report["counts"] == {"read": 10, "rejected": 3, "sampled_out": 2, "kept": 5}
    assert report["rejected"] == {"empty_text": 3}
    assert [(reject["line"], reject["reason"]) for reject in report["rejects"]] == [
        (1, "empty_text"), (2, "empty_text"), (3, "empty_text"),
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"drop share: 30.00%, allowed at most 20.00%"):
        validate_language([path], "en", DataOptions(max_drop_share=0.2, max_rows=5, minimum_rows=1))


@pytest.mark.regression("DAT-04")
def test_duplicates_are_dropped_counted_and_named(write_rows, facts):
    rows = facts("en")
    rows.append({**rows[5], "id": "copy", "prompt": rows[5]["prompt"].upper() + "\u200b"})
    kept, report = validate_language([write_rows(rows)], "en")
    assert len(kept) == 40
    assert report["rejected"] == {"exact_duplicate": 1}
    assert "copy" in report["rejects"][0]["detail"] or report["rejects"][0]["line"] in (6, 41)


@pytest.mark.regression("DAT-04")
def test_the_share_of_near_duplicates_is_a_gate(write_rows):
    body = "a very long sentence about one and the same rather unremarkable small town by the river number"
    rows = [{"prompt": f"{body} {number}", "answer": "yes"} for number in range(40)]
    path = write_rows(rows)
    with pytest.raises(InputError, match=r"near duplicates: 100.00%"):
        validate_language([path], "en", DataOptions(near_duplicate_limit=0.5, max_drop_share=1.0, fit_share=0,
                                                    dev_share=0))  # fmt: skip


@pytest.mark.regression("DAT-05")
def test_no_prompt_is_in_fit_and_in_an_evaluation_split(write_rows, facts):
    rows = facts("en", 200)
    # Every prompt occurs in two groups with different answers, so that a row-wise split would leak.
    twins = [
        {**row, "id": f"twin{number}", "group": f"twin{number}", "answer": f"the brook {number}"}
        for number, row in enumerate(rows)
    ]
    kept, report = validate_language([write_rows(rows + twins)], "en", DataOptions(max_drop_share=1.0))
    prompts = {split: set(part["prompt"]) for split, part in kept.groupby("split")}
    assert not prompts["fit"] & (prompts["dev"] | prompts["test"])
    assert not prompts["dev"] & prompts["test"]
    assert report["rejected"]["split_leak"] > 0


def test_a_leak_between_declared_splits_is_an_error_with_both_lines(write_rows, facts):
    rows = facts("en")
    rows[3]["split"], rows[9]["split"] = "fit", "test"
    rows[9]["prompt"] = rows[3]["prompt"]
    path = write_rows(rows)
    with pytest.raises(InputError, match=rf"{path}:10: .*{path}:4"):
        validate_language([path], "en")


def test_a_group_in_two_declared_splits_is_an_error(write_rows, facts):
    rows = facts("en")
    rows[3] |= {"split": "fit", "group": "g"}
    rows[9] |= {"split": "test", "group": "g"}
    path = write_rows(rows)
    with pytest.raises(InputError, match=rf"{path}:10: group 'g'"):
        validate_language([path], "en")


def test_an_id_twice_is_an_error(write_rows, facts):
    rows = facts("en")
    rows[9]["id"] = rows[3]["id"]
    with pytest.raises(InputError, match="'town3/q1'"):
        validate_language([write_rows(rows)], "en")


@pytest.mark.regression("DAT-07")
def test_shuffling_the_file_leaves_the_sample_unchanged(write_rows, facts):
    rows = facts("en", 100)
    options = DataOptions(max_rows=30)
    first, report = validate_language([write_rows(rows)], "en", options)
    random.Random(0).shuffle(rows)
    second, other = validate_language([write_rows(rows, "shuffled.jsonl")], "en", options)
    pd.testing.assert_frame_equal(content(first), content(second))
    assert report["sampled_ids"] == other["sampled_ids"]
    assert set(first["example_id"]) != {row["id"] for row in facts("en", 30)}


def test_parallel_rows_of_two_languages_are_sampled_and_split_alike(write_rows, facts):
    options = DataOptions(max_rows=30)
    hindi, _ = validate_language([write_rows(facts("hi", 100), "a.jsonl")], "hi", options)
    bengali, _ = validate_language([write_rows(facts("bn", 100), "b.jsonl")], "bn", options)
    columns = ["example_id", "split"]
    pd.testing.assert_frame_equal(hindi[columns], bengali[columns])


@pytest.mark.regression("DAT-29")
def test_renaming_the_files_leaves_every_row_unchanged(write_rows, facts):
    rows = facts("en", 60)
    for row in rows:
        del row["id"], row["group"]
    split = [write_rows(rows[:30], "zebra_hindi_test.jsonl"), write_rows(rows[30:], "mixed_romanised.jsonl")]
    first, _ = validate_language(split, "en")
    renamed = [write_rows(rows[:30], "1.jsonl"), write_rows(rows[30:], "0.jsonl")]
    second, _ = validate_language(renamed, "en")
    pd.testing.assert_frame_equal(content(first), content(second))


@pytest.mark.regression("DAT-08")
def test_residue_fails_and_the_repaired_file_passes(write_rows):
    texts = [{"text": f'"The town number {number} lies by a river.",'} for number in range(40)]
    path = write_rows(texts)
    with pytest.raises(InputError, match=r"wrapping residue: 100.00%, allowed at most 1.00%"):
        validate_language([path], "en")
    rows, report = validate_language([path], "en", DataOptions(repair_residue=True))
    assert report["wrapping_residue"] == {"found": 40, "repaired": 40}
    assert not rows["prompt"].str.startswith('"').any()
    assert rows["answer"].str.endswith("river.").all()


@pytest.mark.regression("DAT-14")
def test_a_filter_that_leaves_nothing_names_itself_the_file_and_the_counts(write_rows, facts):
    path = write_rows(facts("en"))
    with pytest.raises(InputError, match=rf"{path}: no row of hi is left of 40 \(script_mismatch 40\)"):
        validate_language([path], "hi", DataOptions(max_drop_share=1.0))


@pytest.mark.regression("DAT-14")
def test_too_few_rows_are_an_error(write_rows, facts):
    with pytest.raises(InputError, match="rows: 12, allowed at least 20"):
        validate_language([write_rows(facts("en", 12))], "en")


@pytest.mark.regression("DAT-26")
def test_a_defect_in_the_last_of_many_rows_is_found(write_rows, facts):
    rows = facts("hi", 3000)
    rows[-1]["answer"] = "the river Ganga"
    kept, report = validate_language([write_rows(rows)], "hi")
    assert [(reject["line"], reject["reason"]) for reject in report["rejects"]] == [(3000, "script_mismatch")]
    assert len(kept) == 2999


@pytest.mark.regression("DAT-11", "DAT-16")
def test_english_cannot_pass_as_romanised_hindi(write_rows, facts):
    with pytest.raises(InputError, match=r"no row of hi_Latn is left|romanised: 0.00%|drop share"):
        validate_language([write_rows(facts("en"))], "hi_Latn")
    assert len(validate_language([write_rows(facts("hi_Latn"))], "hi_Latn")[0]) == 40


@pytest.mark.regression("DAT-27")
def test_repeating_rows_adds_neither_rows_nor_certainty(write_rows, facts):
    rows = facts("en", 40)
    copies = [{**row, "id": f"{row['id']}/{copy}"} for row in rows for copy in range(10)]
    once, report = validate_language([write_rows(rows)], "en")
    often, other = validate_language(
        [write_rows(copies, "often.jsonl")], "en", DataOptions(max_drop_share=1.0)
    )
    assert len(often) == len(once) == 40
    assert other["unique"] == report["unique"]
    assert other["unique"]["group"] == 40

    def spread(table: pd.DataFrame, repeated: int) -> float:
        table = pd.concat([table.assign(copy=copy) for copy in range(repeated)])
        items = [f"{row.example_id}/{row.copy}" for row in table.itertuples()]
        scores = table["answer"].str.len().to_numpy(float)[:, None, None]
        sample = draw(table["group"].tolist(), items, 1000, names=["repeat"]).means(scores)
        return float(sample.draws.std())

    assert spread(once, 10) == pytest.approx(spread(once, 1), rel=1e-9)


def test_the_report_counts_what_the_rows_hold(write_rows, facts):
    rows, report = validate_language([write_rows(facts("hi"))], "hi")
    for split, described in report["splits"].items():
        part = rows[rows["split"] == split]
        assert described["rows"] == len(part)
        assert described["groups"] == part["group"].nunique()
    assert report["unique"]["prompt"] == rows["prompt"].nunique()


def run_script(folder: Path, corpus: Path, language: str) -> subprocess.CompletedProcess[str]:
    """Run the script of the rule `validate` in a process of its own, as the workflow does."""
    driver = (
        "import json, runpy, sys; from types import SimpleNamespace as Space\n"
        "given = json.loads(sys.argv[1])\n"
        "class Files(list): pass\n"
        "output = Files(given['output'].values()); output.__dict__.update(given['output'])\n"
        "job = Space(log=[], output=output, threads=1, wildcards=Space(**given['wildcards']),\n"
        "            input=Space(**given['input']), params=Space(**given['params']))\n"
        "runpy.run_path(given['script'], init_globals={'snakemake': job})\n"
    )
    given = {
        "script": str(ROOT / "scripts" / "validate.py"),
        "wildcards": {"language": language},
        "input": {"files": [str(corpus)]},
        "params": {"options": {}},
        "output": {"rows": str(folder / "rows.parquet"), "report": str(folder / "report.json")},
    }
    return subprocess.run(
        [sys.executable, "-c", driver, json.dumps(given)],
        cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.regression("DAT-25")
def test_one_failing_check_fails_the_job_and_leaves_no_result(tmp_path, write_rows, facts):
    good = run_script(tmp_path, write_rows(facts("en")), "en")
    assert good.returncode == 0, good.stderr
    assert (tmp_path / "rows.parquet").exists()
    failed = tmp_path / "failed"
    failed.mkdir()
    # Everything is in order but one share: 5 of 40 rows are empty, and the limit is 10 %.
    rows = facts("en")
    for row in rows[:5]:
        row["answer"] = ""
    bad = run_script(failed, write_rows(rows, "bad.jsonl"), "en")
    assert bad.returncode != 0
    assert "drop share: 12.50%" in bad.stderr
    assert not [path for path in failed.iterdir() if path.suffix in (".parquet", ".json")]


PREPARE = """
import sys
from mmie.data.validation import validate_language
from mmie.io import write_parquet
for _ in range(3):
    write_parquet(sys.argv[2], validate_language([sys.argv[1]], "en")[0])
"""


@pytest.mark.regression("DAT-32")
def test_two_preparers_at_once_leave_one_valid_result(tmp_path, write_rows, facts):
    corpus, target = write_rows(facts("en", 200)), tmp_path / "rows.parquet"
    command = [sys.executable, "-c", PREPARE, str(corpus), str(target)]
    preparers = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    assert [preparer.wait(120) for preparer in preparers] == [0, 0]
    pd.testing.assert_frame_equal(read_parquet(target), validate_language([corpus], "en")[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "rows.parquet"]


@pytest.mark.regression("DAT-32")
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_half_written_table_is_refused(tmp_path, write_rows, facts, share):
    target = tmp_path / "rows.parquet"
    write_parquet(target, validate_language([write_rows(facts("en"))], "en")[0])
    whole = target.read_bytes()
    target.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises((InputError, pyarrow.ArrowInvalid)):
        read_parquet(target)
