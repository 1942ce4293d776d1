"""The workflow itself: what it writes, what it re-runs, how it fails and how it recovers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import psutil
import pytest
import yaml

if TYPE_CHECKING:
    from tests.e2e.conftest import Project

pytestmark = pytest.mark.workflow

GATE_KEYS = {"passed", "estimate", "ci_low", "ci_high", "threshold", "p", "q", "reason"}
MANIFEST_KEYS = {
    "code_version", "config", "config_hash", "cost", "details", "hardware", "inputs", "packages", "python",
    "seed",
}  # fmt: skip
METRIC_COLUMNS = {
    "arm", "language", "split", "metric", "estimate", "ci_low", "ci_high", "n_seeds", "n_items", "direction",
}  # fmt: skip
EVALUATION_COLUMNS = {
    "example_id", "fact_id", "group", "template_id", "split", "language", "script", "prompt", "reference",
    "generation", "answer_state", "answer_probability", "bits_per_byte", "extraction_strength",
    "exact_memorisation", "chrf", "lid", "lid_onset",
}  # fmt: skip


@pytest.mark.regression("DAT-30", "REP-18")
def test_a_run_in_an_awkward_folder_ends_with_a_verdict_for_every_arm(project: Project) -> None:
    gates = json.loads((project.results / "summary" / "gates.json").read_text())
    assert gates["experiment"] == "reduced"
    assert set(gates["arms"]) == {"base", "oracle", "broken", "lora-npo"}
    for arm in gates["arms"].values():
        assert arm["decision"] in ("PROCEED", "STOP")
        assert all(set(gate) >= GATE_KEYS for gate in arm["gates"].values())
    assert gates["arms"]["base"]["decision"] == gates["arms"]["broken"]["decision"] == "STOP"
    assert "no_effect" in gates["arms"]["base"]["codes"]
    assert set(gates["arms"]["broken"]["codes"]) & {"collapsed", "utility_loss"}


def test_the_tables_keep_their_contract(project: Project) -> None:
    metrics = pd.read_parquet(project.results / "summary" / "metrics.parquet")
    assert set(metrics.columns) >= METRIC_COLUMNS
    table = pd.read_parquet(project.results / "eval" / "lora-npo" / "seed1" / "hi.parquet")
    assert set(table.columns) >= EVALUATION_COLUMNS
    assert table["example_id"].is_unique


def test_the_known_verdicts_hold_when_the_items_are_drawn_again(project: Project) -> None:
    ran = project.module("mmie.statistics.repeats", str(project.results), "--repeats", "20")
    for arm in ("base", "oracle", "broken", "permuted labels"):
        assert f"{arm}: held in 20 of 20" in ran.stdout, ran.stdout + ran.stderr


def test_every_directory_has_its_manifest(project: Project) -> None:
    for folder in [path for path in project.results.rglob("*") if path.is_dir()]:
        inside = folder.relative_to(project.results).parts
        holds_results = any(file.suffix in (".parquet", ".safetensors") for file in folder.iterdir())
        if inside[0] in {"logs", "benchmarks", "figures", "checkpoints"} or not holds_results:
            continue
        parents = [folder, *folder.parents]
        assert any((parent / "manifest.json").is_file() for parent in parents[: len(inside)]), folder


@pytest.mark.regression("REP-05")
def test_every_manifest_says_with_what_it_was_made(project: Project) -> None:
    manifests = [json.loads(path.read_text()) for path in project.results.rglob("manifest.json")]
    assert len(manifests) > 10
    for manifest in manifests:
        assert set(manifest) == MANIFEST_KEYS
        assert manifest["config"] and len(manifest["config_hash"]) >= 32 and manifest["packages"]["torch"]
        assert manifest["cost"]["wall_seconds"] > 0 and manifest["cost"]["peak_memory_mb"] > 0
        assert manifest["hardware"]["device"] and all(
            len(value) == 64 for value in manifest["inputs"].values()
        )


def test_the_report_is_one_file_that_fetches_nothing(project: Project) -> None:
    page = (project.results / "report.html").read_text()
    assert "STOP" in page
    assert "<script src" not in page
    assert 'href="http' not in page.replace('href="https://arxiv.org', "")


def test_a_second_run_does_nothing(project: Project) -> None:
    assert project.planned() == {}


@pytest.mark.regression("DAT-31")
def test_changing_an_arm_reruns_that_arm_and_what_follows(project: Project, tmp_path: Path) -> None:
    change = _overlay(
        tmp_path, {"arms": {"lora-npo": {"kind": "lora", "rank": 4, "training": {"steps": 20}}}}
    )
    planned = project.planned("--configfile", "tests/e2e/reduced.yaml", str(change))
    for rule in ("arm", "evaluate", "evaluate_neighbour", "relearn", "attack", "depth"):
        assert planned.pop(rule) == 1
    sealed = {"seal_evaluation", "seal_attack", "seal_depth"}
    assert set(planned) <= {*sealed, "aggregate", "report", "all"}


@pytest.mark.regression("DAT-31")
def test_a_change_is_not_passed_over_because_the_corpora_are_checked_again(
    project: Project, tmp_path: Path
) -> None:
    """Snakemake plans nothing behind an `ancient` input whose job runs again: here none is."""
    arm = {"kind": "diff_means", "operation": "ablate"}
    change = _overlay(tmp_path, {"arms": {"ablate": arm}, "decoding": {"max_new_tokens": 20}})
    planned = project.planned("--configfile", "tests/e2e/reduced.yaml", str(change))
    assert planned["check_corpora"] == 1
    assert planned["evaluate"] == 6
    assert "base" not in planned and "oracle" not in planned
    alone = project.planned("--configfile", "tests/e2e/reduced.yaml", str(change), "--", "dose_response")
    assert alone["arm"] == alone["dose"] == alone["dose_figure"] == 1


def test_adding_a_language_reruns_what_that_language_needs(project: Project, tmp_path: Path) -> None:
    change = _overlay(tmp_path, {"data": {"corpora": {"pa": "data/atlas/pa.jsonl"}}})
    reduced = yaml.safe_load((project.folder / "tests/e2e/reduced.yaml").read_text())
    del reduced["data"]
    without = _overlay(tmp_path, reduced, "without.yaml")
    planned = project.planned("--configfile", str(without), str(change))
    assert planned["validate"] == planned["lengths"] == 1
    assert planned["evaluate_neighbour"] == 5
    # Latents are picked against it too.
    assert planned["activations"] == planned["features"] == 1
    assert not set(planned) & {
        "base",
        "oracle",
        "reference",
        "layers",
        "sae",
        "arm",
        "relearn",
        "attack",
        "depth",
        "evaluate",
    }


@pytest.mark.regression("DAT-15")
def test_a_changed_filter_reruns_layers_and_autoencoder(project: Project, tmp_path: Path) -> None:
    change = _overlay(tmp_path, {"data": {"max_rows": 2000}})
    planned = project.planned("--configfile", "tests/e2e/reduced.yaml", str(change))
    assert {"validate", "activations", "layers", "sae", "arm", "evaluate"} <= set(planned)


@pytest.mark.parametrize(
    ("module", "rerun", "kept"),
    [
        ("mmie/report/page.py", {"report"}, {"aggregate", "arm", "evaluate"}),
        ("mmie/statistics/bootstrap.py", {"aggregate", "report"}, {"arm", "evaluate", "sae"}),
        ("mmie/metrics/text.py", {"evaluate", "relearn", "aggregate"}, {"arm", "sae", "layers"}),
        ("mmie/sae/train.py", {"sae"}, {"activations", "layers", "reference"}),
        ("mmie/attacks/steer.py", {"attack"}, {"relearn", "evaluate", "arm"}),
    ],
)
def test_an_edited_module_reruns_the_stages_that_use_it(
    project: Project, module: str, rerun: set[str], kept: set[str]
) -> None:
    file = project.folder / module
    original, times = file.read_text(), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    try:
        file.write_text(original + "\n# edited\n")
        planned = set(project.planned())
    finally:
        file.write_text(original)
        os.utime(file, ns=times)
    assert rerun <= planned
    assert not planned & kept


def test_a_wrong_key_is_one_line_with_the_nearest_key(project: Project, tmp_path: Path) -> None:
    change = _overlay(tmp_path, {"decodin": {}})
    result = project.run("--dry-run", "--configfile", "tests/e2e/reduced.yaml", str(change))
    assert result.returncode != 0
    assert "decodin: unknown key. Did you mean 'decoding'?" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_a_bad_row_stops_before_any_model_is_loaded(project: Project, tmp_path: Path) -> None:
    corpus = tmp_path / "bad.jsonl"
    corpus.write_text('{"text": "one"}\n{"text": "two"\n')
    change = _overlay(tmp_path, {"experiment": "bad", "data": {"corpora": {"ur": str(corpus)}}})
    result = project.run("--configfile", "tests/e2e/reduced.yaml", str(change))
    assert result.returncode != 0
    assert "bad.jsonl:2" in result.stdout + result.stderr
    assert not (project.folder / "results" / "bad" / "base").exists()


def test_a_missing_file_is_named(project: Project, tmp_path: Path) -> None:
    change = _overlay(tmp_path, {"experiment": "absent", "data": {"corpora": {"ur": "data/absent.jsonl"}}})
    result = project.run("--configfile", "tests/e2e/reduced.yaml", str(change))
    assert result.returncode != 0
    assert "data/absent.jsonl" in result.stdout + result.stderr


# Continuous integration has the SLURM test in its place, which kills a job too.
@pytest.mark.slow
def test_killed_anywhere_the_next_run_gives_the_same_summary(project: Project) -> None:
    before = project.summary()
    for done in ("arms/lora-npo", "eval/lora-npo", "summary"):
        _remove(project.results / done)
    # First the training job dies, then the whole workflow while another job runs.
    run = _start(project)
    _kill(_wait_for_job(run, "arm.py"))
    run.wait(timeout=600)
    assert run.returncode != 0
    run = _start(project)
    job = _wait_for_job(run, "evaluate.py")
    _kill(_snakemake_of(run))
    run.wait(timeout=60)
    deadline = time.monotonic() + 20
    while job.is_running() and job.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "a job outlived its workflow"
        time.sleep(0.1)
    finished = project.run(module="mmie.launch")
    assert finished.returncode == 0, (finished.stdout + finished.stderr)[-4000:]
    assert "The report is" in finished.stdout
    assert project.summary() == before
    assert project.planned() == {}


def test_a_sweep_chooses_on_dev_and_says_how_all_trials_did(project: Project, tmp_path: Path) -> None:
    grid = {"training.learning_rate": [0.0001, 0.003]}
    change = _overlay(tmp_path, {"sweep": {"arms": {"lora-npo": {"grid": grid}}}})
    ran = project.run("--configfile", "tests/e2e/reduced.yaml", str(change), "--", "sweep")
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-4000:]
    folder = project.results / "sweep" / "lora-npo"
    table = pd.read_parquet(folder / "trials.parquet")
    assert table["training.learning_rate"].tolist() == grid["training.learning_rate"]
    assert table["s_mem"].between(0, 1).all()
    assert table["s_mem"].is_monotonic_increasing  # a rate of 0.0001 for 20 steps hardly trains
    assert set(pd.read_parquet(folder / f"{table['trial'][0]}.parquet")["split"]) == {"dev"}
    assert json.loads((folder / "chosen.json").read_text())["trials"] == 2
    wider = _overlay(
        tmp_path,
        {"sweep": {"arms": {"lora-npo": {"grid": {"training.learning_rate": [0.0001, 0.003, 0.01]}}}}},
    )
    assert project.planned("--configfile", "tests/e2e/reduced.yaml", str(wider), "--", "sweep") == {
        "sweep": 1, "sweep_choice": 1, "sweep_trial": 1,
    }  # fmt: skip


def test_doses_end_in_a_figure_and_the_next_report_shows_them(project: Project, tmp_path: Path) -> None:
    change = _overlay(tmp_path, {"arms": {"ablate": {"kind": "diff_means", "operation": "ablate"}}})
    configured = ("--configfile", "tests/e2e/reduced.yaml", str(change))
    ran = project.run(*configured, "--", "dose_response")
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-4000:]
    table = pd.read_parquet(project.results / "dose" / "ablate" / "seed0.parquet")
    assert {"hi", "hi_Latn", "en", "bn"} == set(table["language"])
    assert {0.0, 1.0} < set(table["share"].dropna())
    figure = (project.results / "dose" / "dose.svg").read_text(encoding="utf-8")
    assert "ablate" in figure and "leak in Hindi" in figure
    assert project.planned() == {"report": 1, "all": 1}


def _overlay(folder: Path, content: dict, name: str = "change.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(content))
    return path


def _remove(path: Path) -> None:
    subprocess.run(["rm", "-rf", str(path)], check=True)


def _start(project: Project) -> psutil.Popen:
    return psutil.Popen(
        project.command(module="mmie.launch"),
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _descendants(run: psutil.Popen) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return run.children(recursive=True)
    return []


def _words(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return process.cmdline()
    return []


def _wait_for_job(run: psutil.Popen, script: str) -> psutil.Process:
    """The interpreter that runs a script of the workflow (Snakemake gives it a temporary name)."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for process in _descendants(run):
            words = _words(process)
            if len(words) == 2 and words[1].endswith(f".{script}"):
                time.sleep(2)
                return process
        assert run.poll() is None, "the workflow ended before the job began"
        time.sleep(0.1)
    raise AssertionError(f"{script} never started")


def _snakemake_of(run: psutil.Popen) -> psutil.Process:
    return next(process for process in _descendants(run) if "snakemake" in _words(process)[1:3])


def _kill(process: psutil.Process) -> None:
    process.send_signal(signal.SIGKILL)
