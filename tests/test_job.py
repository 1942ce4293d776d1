"""A job keeps all of its output, dies with its workflow and never shares a result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmie import job
from mmie.errors import InputError
from mmie.io import read_json

PRELUDE = """
import os, subprocess, sys, time, warnings
from pathlib import Path
from types import SimpleNamespace
from mmie import job
snakemake = SimpleNamespace(log=["job.log"], output=["out.txt"], threads=1)
job.start(snakemake)
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + code], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_log_holds_everything_and_so_does_the_terminal(tmp_path):
    code = """
print("printed")
warnings.warn("warned")
os.write(2, b"written to descriptor 2\\n")
subprocess.run(["sh", "-c", "echo spoken by a child"])
raise RuntimeError("raised")
"""
    result = run(code, tmp_path)
    log = (tmp_path / "job.log").read_text()
    assert result.returncode == 1
    for said in ("printed", "warned", "written to descriptor 2", "spoken by a child", "RuntimeError: raised"):
        assert said in log
        assert said in result.stderr


def test_an_abort_leaves_its_stack_in_the_log(tmp_path):
    result = run("print('before')\nos.abort()", tmp_path)
    assert result.returncode == -signal.SIGABRT
    deadline = time.monotonic() + 5
    while "Aborted" not in (log := (tmp_path / "job.log").read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "before" in log
    assert "Fatal Python error: Aborted" in log


def test_an_input_error_is_shown_without_a_stack(tmp_path):
    result = run("from mmie.errors import InputError\nraise InputError('a.jsonl:3: bad. Mend it.')", tmp_path)
    assert result.returncode == 1
    assert "error: a.jsonl:3: bad. Mend it." in result.stderr
    assert "Traceback" not in result.stderr


def test_a_job_dies_with_its_workflow(tmp_path):
    job_code = PRELUDE + "Path('pid').write_text(str(os.getpid()))\ntime.sleep(60)"
    (tmp_path / "job.py").write_text(job_code)
    # Found by its name, as the real one is; it starts the job through a shell, as Snakemake does.
    workflow = tmp_path / "snakemake"
    workflow.write_text(
        "import subprocess, sys; subprocess.run(['sh', '-c', f'{sys.executable} job.py; true'])"
    )
    parent = subprocess.Popen([sys.executable, str(workflow)], cwd=tmp_path)
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = int((tmp_path / "pid").read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while _alive(child):
        assert time.monotonic() < deadline, "the job outlived its workflow"
        time.sleep(0.05)


def test_a_job_whose_workflow_is_gone_before_it_can_look_does_not_start(tmp_path, monkeypatch):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    namespace = os.readlink("/proc/self/ns/pid")
    monkeypatch.setenv(job.WORKFLOW, f"{ended.pid} 1.0 {namespace}")
    refused = run("print('went on')", tmp_path)
    assert refused.returncode == 1
    assert "the workflow that started this job has ended" in refused.stderr
    assert "went on" not in refused.stdout + refused.stderr
    # The number says nothing in another container, and belongs to somebody else if the start differs.
    monkeypatch.setenv(job.WORKFLOW, f"{ended.pid} 1.0 pid:[1]")
    assert run("print('went on')", tmp_path).returncode == 0
    monkeypatch.setenv(job.WORKFLOW, f"{os.getpid()} 1.0 {namespace}")
    assert run("print('went on')", tmp_path).returncode == 1
    job.announce_workflow()
    assert run("print('went on')", tmp_path).returncode == 0


def test_a_lock_waits_for_an_owner_that_is_dying(tmp_path):
    (tmp_path / "first.py").write_text(PRELUDE + "open('ready', 'w').close()\ntime.sleep(2)")
    first = subprocess.Popen([sys.executable, "first.py"], cwd=tmp_path)
    while not (tmp_path / "ready").exists():
        assert first.poll() is None
        time.sleep(0.05)
    assert run("print('wrote')", tmp_path).returncode == 0
    first.wait()


def test_two_processes_never_write_one_result(tmp_path):
    code = "open('ready', 'w').close()\ntime.sleep(60)"
    (tmp_path / "first.py").write_text(PRELUDE + code)
    first = subprocess.Popen([sys.executable, "first.py"], cwd=tmp_path)
    try:
        while not (tmp_path / "ready").exists():
            assert first.poll() is None
            time.sleep(0.05)
        second = run("print('wrote')", tmp_path)
    finally:
        first.kill()
        first.wait()
    assert second.returncode == 1
    assert "another process is writing this result" in second.stderr
    assert run("print('wrote')", tmp_path).returncode == 0, "the lock ends with its owner"


def test_the_manifest_says_what_the_result_was_made_from(tmp_path, monkeypatch):
    source = tmp_path / "rows.txt"
    source.write_text("abc")
    job.manifest(tmp_path / "manifest.json", config={"b": 1}, inputs=[source], seed=3)
    manifest = read_json(tmp_path / "manifest.json")
    assert manifest["inputs"][str(source)].startswith("ba7816bf")
    assert manifest["seed"] == 3
    assert manifest["cost"]["peak_memory_mb"] > 1
    assert {"config", "config_hash", "code_version", "packages", "hardware"} <= set(manifest)


def test_a_lock_is_refused_within_one_process_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "LOCK_SECONDS", 0.3)
    job.hold_lock(Path("result"))
    with pytest.raises(InputError, match="result"):
        job.hold_lock(Path("result"))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]
