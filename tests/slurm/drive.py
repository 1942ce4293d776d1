"""Drive a reduced experiment through SLURM and check what SLURM and the workflow did.

    drive.py CLUSTER        in a copy of the project, while the cluster of `cluster_up.sh CLUSTER` is up

Prints one line a check and closes with `N passed, N failed`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

RESULTS = Path("results/slurm-test")
BASE_SCORES = RESULTS / "eval/base/seed0/hi.parquet"
ARM = RESULTS / "arms/lora-npo/seed1"
ARM_SCORES = RESULTS / "eval/lora-npo/seed1/hi.parquet"
CHECKPOINTS = RESULTS / "checkpoints/lora-npo/seed1"

# The name under which the plugin submits the job whose first attempt is killed.
BASE_EVALUATION = "rule_evaluate_wildcards_base_0"
PATIENCE = 900
"""Seconds for one call of Snakemake."""


@dataclass(frozen=True)
class Job:
    """What SLURM remembers of a job; times are ISO texts of the same clock."""

    number: str
    name: str
    state: str
    partition: str
    memory_mb: int
    gpu: bool
    submitted: str
    started: str
    ended: str


def slurm_jobs() -> list[Job]:
    """Every job of the cluster, oldest first."""
    shown = subprocess.run(
        ["scontrol", "show", "job", "--oneliner"], capture_output=True, text=True, check=True
    )
    records = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in shown.stdout.splitlines()]
    return [
        Job(
            number=record["JobId"],
            name=record.get("Comment", ""),
            state=record["JobState"],
            partition=record["Partition"],
            memory_mb=_megabytes(record.get("MinMemoryNode", "0")),
            gpu="gpu" in record.get("TresPerJob", ""),
            submitted=record["SubmitTime"],
            started=record["StartTime"],
            ended=record["EndTime"],
        )
        for record in records
        if "JobId" in record
    ]


def _megabytes(text: str) -> int:
    factors = {"K": 1 / 1024, "M": 1, "G": 1024}
    return round(float(text.rstrip("KMG")) * factors.get(text[-1], 1))


class Checks:
    """Prints each claim with whether it holds."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0
        self.started = time.monotonic()

    def __call__(self, claim: str, holds: bool, found: object = "") -> None:
        seconds = time.monotonic() - self.started
        self.passed += holds
        self.failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'} {claim} ({seconds:.0f} s)", flush=True)
        if not holds:
            print(f"     found: {found}", flush=True)


def snakemake(log: str, *arguments: str, targets: tuple[Path, ...]) -> subprocess.Popen[bytes]:
    """Start Snakemake as a user of a cluster would, plus what the test's cluster needs."""
    command = [
        "snakemake",
        *("--profile", "profiles/slurm", "--workflow-profile", "tests/slurm/profile"),
        *("--configfile", "tests/slurm/reduced.yaml"),
        *arguments,
        "--",
        *map(str, targets),
    ]
    with open(log, "wb") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def finish(run: subprocess.Popen[bytes], meanwhile: Callable[[], object] = lambda: None) -> int | None:
    """Wait for a run and look at `meanwhile` several times a second; None when it took too long."""
    deadline = time.monotonic() + PATIENCE
    try:
        while run.poll() is None and time.monotonic() < deadline:
            meanwhile()
            time.sleep(0.1)
        return run.poll()
    finally:
        if run.poll() is None:
            # Snakemake cancels its jobs.
            run.send_signal(signal.SIGINT)
            try:
                run.wait(timeout=30)
            except subprocess.TimeoutExpired:
                run.kill()
                run.wait()


def payload_of(job: Job) -> psutil.Process | None:
    """The process of a job that runs the stage's script."""
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if (
                words
                and "python" in Path(words[0]).name
                and any(".snakemake/scripts/" in word for word in words)
                and process.environ().get("SLURM_JOB_ID") == job.number
            ):
                return process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return None


class FirstAttemptKiller:
    """Kills the payload of the first job of a name, as the kernel does when memory runs out."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.victim: Job | None = None

    def __call__(self) -> None:
        if self.victim is not None:
            return
        for job in slurm_jobs():
            if job.name == self.name and job.state == "RUNNING" and (payload := payload_of(job)):
                payload.kill()
                self.victim = job


def digests(*places: Path) -> dict[str, str]:
    """SHA-256 of the files of results; manifests, which hold times, are left out."""
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*"))]
    return {
        str(file): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(files)
        if file.is_file() and file.name != "manifest.json"
    }


def visible_devices(manifest: Path) -> str | None:
    """CUDA_VISIBLE_DEVICES of the job that wrote a manifest."""
    device: str | None = json.loads(manifest.read_text())["hardware"]["visible_devices"]
    return device


def leftovers() -> list[str]:
    """Half-written files beside results; among checkpoints they are harmless."""
    found = map(str, RESULTS.rglob("*.partial"))
    return [path for path in found if not path.startswith(str(CHECKPOINTS))]


def successive(jobs: list[Job]) -> list[tuple[Job, Job]]:
    """Pairs of jobs of which one started next after the other."""
    ran = (job for job in jobs if job.started != "Unknown")
    return list(pairwise(sorted(ran, key=lambda job: (job.started, job.ended))))


def whole_run(check: Checks) -> None:
    """The experiment from nothing; one job is killed in its first attempt."""
    kill = FirstAttemptKiller(BASE_EVALUATION)
    code = finish(snakemake("whole.log", targets=(BASE_SCORES, ARM_SCORES)), meanwhile=kill)
    check("the experiment ends well", code == 0, f"exit status {code}")
    jobs = slurm_jobs()
    on_gpu, on_cpu = [job for job in jobs if job.gpu], [job for job in jobs if not job.gpu]

    devices = [visible_devices(folder / "manifest.json") for folder in (RESULTS / "base", ARM)]
    check("GPU jobs get the device", devices == ["0", "0"], devices)
    device = visible_devices(RESULTS / "data/manifest.json")
    check("a CPU job gets none", device is None and bool(on_cpu), device)
    places = {(job.partition, job.gpu) for job in jobs}
    check("each goes to its partition", places == {("cpu", False), ("gpu", True)}, places)
    pairs = successive(on_gpu)
    queued = [second.number for first, second in pairs if second.submitted < first.ended]
    check("GPU jobs wait in the queue for another one", bool(queued), on_gpu)
    together = [(first.number, second.number) for first, second in pairs if second.started < first.ended]
    check("and never run at the same time", not together, together)

    attempts = [job for job in jobs if job.name == BASE_EVALUATION]
    check("the payload of a first attempt is killed", kill.victim is not None)
    states = [job.state for job in attempts]
    check("SLURM sees it fail, and a new job succeed", states == ["FAILED", "COMPLETED"], states)
    memory = [job.memory_mb for job in attempts]
    check("which has twice the memory", memory == [memory[0], 2 * memory[0]] if memory else False, memory)
    check("no half-written file is left", not leftovers(), leftovers())


def idle_run(check: Checks, claim: str) -> None:
    """A run when everything is there."""
    log = "idle.log"
    code = finish(snakemake(log, targets=(BASE_SCORES, ARM_SCORES)))
    check(claim, code == 0 and "Nothing to be done" in Path(log).read_text(), f"exit status {code}")


def cancelled_run(check: Checks) -> None:
    """The arm is fitted again, cancelled in the middle, and taken up by the next call."""
    before = digests(ARM, ARM_SCORES)
    # As if the arm had never been fitted: what follows from it is gone too.
    shutil.rmtree(ARM)
    shutil.rmtree(CHECKPOINTS, ignore_errors=True)
    ARM_SCORES.unlink()
    cancelled: list[str] = []

    def cancel() -> None:
        if not cancelled and any(CHECKPOINTS.glob("*/step-*")):
            running = [job.number for job in slurm_jobs() if job.state == "RUNNING"]
            subprocess.run(["scancel", *running], check=True)
            cancelled.extend(running)

    code = finish(snakemake("cancelled.log", "--retries", "0", targets=(ARM,)), meanwhile=cancel)
    check(
        "a job that is cancelled from outside fails the run",
        code == 1 and bool(cancelled),
        f"exit status {code}",
    )
    states = [job.state for job in slurm_jobs() if job.number in cancelled]
    check("SLURM calls it cancelled", states == ["CANCELLED"], states)
    check("it leaves no output", not ARM.exists(), digests(ARM))
    check("and no half-written file", not leftovers(), leftovers())

    kept = {path: path.stat().st_ino for path in CHECKPOINTS.glob("*/step-*")}
    rewritten: set[Path] = set()

    def watch() -> None:
        for path, number in kept.items():
            # Finished training removes them.
            with suppress(FileNotFoundError):
                if path.stat().st_ino != number:
                    rewritten.add(path)

    code = finish(snakemake("resumed.log", targets=(BASE_SCORES, ARM_SCORES)), meanwhile=watch)
    check("the next call ends well", code == 0, f"exit status {code}")
    check("it trains on from the last checkpoint", bool(kept) and not rewritten, rewritten)
    after = digests(ARM, ARM_SCORES)
    check("and ends with the same bytes", after == before, {"before": before, "after": after})


def _stop(number: int, _frame: object) -> None:
    """End through the `finally` blocks, undisturbed, so that no Snakemake is left alone."""
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> int:
    """Run all checks; 0 when they hold."""
    check = Checks()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        whole_run(check)
        idle_run(check, "a second run does nothing")
        cancelled_run(check)
        idle_run(check, "and then there is nothing left to do")
    except (OSError, subprocess.CalledProcessError) as error:
        check("the checks themselves work", False, repr(error))
    if check.failed:
        for log in (*sorted(Path().glob("*.log")), *sorted(Path(sys.argv[1], "log").glob("slurm*.log"))):
            print(f"\n==> {log} <==", *log.read_text(errors="replace").splitlines()[-25:], sep="\n")
        print()
    print(f"{check.passed} passed, {check.failed} failed")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
