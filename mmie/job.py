"""What every job does first: keep its whole output, die with its workflow, own its result.

Snakemake's `log:` names a file but captures nothing, and a job outlives a workflow that was killed.
`start` answers both; `manifest` writes what a finished result was made from.
"""

from __future__ import annotations

import atexit
import faulthandler
import fcntl
import os
import platform
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from mmie import __version__
from mmie.errors import InputError
from mmie.io import sha256_file, stable_hash, write_json
from mmie.models.loading import SPREAD

WORKFLOW = "MMIE_WORKFLOW"
"""Environment variable with the process of the workflow, its start and its namespace."""
LOCK_SECONDS = 5.0
"""How long a killed job may take to leave its results."""
_started = time.monotonic()
# The locks must live as long as the process: a closed file would release its lock.
_held: list[Any] = []

_REPORTED_PACKAGES = (
    "numpy", "pandas", "peft", "safetensors", "scikit-learn", "scipy", "snakemake", "torch",
    "transformers",
)  # fmt: skip


def start(snakemake: Any) -> None:
    """Prepare the process of one job: log, life time, lock on its outputs, one thread per core asked.

    Args:
        snakemake: the object that Snakemake gives a script.

    Raises:
        InputError: another live process is writing the same result, or the workflow has ended.
    """
    if snakemake.log:
        capture_output(Path(str(snakemake.log[0])))
    sys.excepthook = _explain
    die_with_workflow()
    # A cluster ends a job by SIGTERM: leave as on an error, so that half-written files are removed.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    for output in sorted({str(path) for path in snakemake.output}):
        hold_lock(Path(output))
    os.environ["OMP_NUM_THREADS"] = str(snakemake.threads)
    # A result must not depend on what a hub answers today, nor wait for it.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def capture_output(log: Path) -> None:
    """Send file descriptors 1 and 2, and so native code and children, to `log` and the terminal."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    terminal = os.dup(2)
    # A process of its own, so that the last words of a process that aborts still arrive;
    # a session of its own, so that Ctrl-C does not end it before them.
    tee = subprocess.Popen(
        ["tee", "-a", str(log)], stdin=subprocess.PIPE, stdout=terminal, start_new_session=True
    )
    assert tee.stdin is not None
    os.dup2(tee.stdin.fileno(), 1)
    os.dup2(tee.stdin.fileno(), 2)
    tee.stdin.close()
    faulthandler.enable(file=2)
    warnings.simplefilter("default")

    def finish() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        faulthandler.disable()
        os.dup2(terminal, 1)
        os.dup2(terminal, 2)
        try:
            # A child that outlives us may hold the pipe open; the job does not wait for it.
            tee.wait(timeout=5)
        except subprocess.TimeoutExpired:
            tee.terminate()

    atexit.register(finish)


def announce_workflow() -> None:
    """Tell the jobs of this process that it is their workflow."""
    own = psutil.Process()
    os.environ[WORKFLOW] = f"{own.pid} {own.create_time()} {_namespace()}"


def die_with_workflow() -> None:
    """End this process as soon as the Snakemake that started it is gone (Linux 5.3 and later).

    Raises:
        InputError: it is gone already; nobody waits for this job any more.
    """
    workflow = next((parent for parent in psutil.Process().parents() if _is_snakemake(parent)), None)
    if workflow is None and _workflow_has_ended():
        raise InputError("the workflow that started this job has ended. Run it again.")
    if workflow is None or not hasattr(os, "pidfd_open"):
        return
    handle = os.pidfd_open(workflow.pid)

    def watch() -> None:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll()
        for child in psutil.Process().children(recursive=True):
            child.kill()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="die-with-workflow", daemon=True).start()


def hold_lock(result: Path) -> None:
    """Hold an exclusive lock for `result` until this process ends."""
    folder = Path(".snakemake") / "mmie-locks"
    folder.mkdir(parents=True, exist_ok=True)
    stream = open(folder / stable_hash(str(result.resolve()))[:32], "w")  # noqa: SIM115
    try:
        _lock(stream)
    except BlockingIOError:
        raise InputError(
            f"{result}: another process is writing this result. Wait for it, or end it, then run again."
        ) from None
    except OSError as error:
        # Some network file systems have no locks; the workflow's own lock still stands.
        warnings.warn(f"{result}: this file system cannot lock ({error}); going on without", stacklevel=2)
    _held.append(stream)


def _lock(stream: Any) -> None:
    """Lock a file; whoever holds it may be a job that is just dying with its workflow."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def hold_device(device: str) -> str:
    """Settle where the model runs and keep an accelerator to the end of this process.

    Args:
        device: `cpu`, `cuda`, `cuda:1`, `auto`: an accelerator where there is one, or `balanced`: all
            that this process sees.

    Returns:
        The device to use. A busy accelerator is waited for.

    Raises:
        InputError: an accelerator was asked for by name and there is none, or several and there is one.
    """
    if device == "cpu":
        return device
    import torch

    if not torch.cuda.is_available():
        if device == "auto":
            return "cpu"
        if device == SPREAD:
            raise InputError("model.gpus: this job sees no GPU. Set model.gpus to 1, or give it some.")
        raise InputError(f"model.device: {device!r} is not here. Use `auto` or `cpu`.")
    if device == SPREAD and torch.cuda.device_count() < 2:
        raise InputError("model.gpus: this job sees one GPU. Set model.gpus to 1, or give it more.")
    if "SLURM_JOB_ID" in os.environ:
        # The cluster hands out devices; every job of it may call its own device 0.
        return "cuda" if device == "auto" else device
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all").replace(",", "-")
    name = f"mmie-device-{os.getuid()}-{visible}.lock"
    stream = open(Path(tempfile.gettempdir()) / name, "w")  # noqa: SIM115
    fcntl.flock(stream, fcntl.LOCK_EX)
    _held.append(stream)
    return "cuda" if device == "auto" else device


def manifest(
    path: str | Path,
    *,
    config: Mapping[str, Any],
    inputs: Iterable[str | Path],
    seed: int | None = None,
    device: str = "cpu",
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write the manifest that turns a directory into a result.

    Args:
        path: the manifest file, beside or inside the result.
        config: the values that shaped the result.
        inputs: the files it was made from; their hashes are stored.
        seed: the seed of the run, where there is one.
        device: where the model ran.
        details: what the stage adds: counts, hashes, decisions.
    """
    write_json(
        path,
        {
            "config": config,
            "config_hash": stable_hash(config),
            "inputs": {str(item): sha256_file(item) for item in inputs if Path(item).is_file()},
            "code_version": __version__,
            "packages": {name: metadata.version(name) for name in _REPORTED_PACKAGES},
            "hardware": {
                "machine": platform.machine(),
                "cores": os.cpu_count(),
                "device": device,
                "visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
            },
            "python": platform.python_version(),
            "seed": seed,
            "details": dict(details or {}),
            "cost": {
                "wall_seconds": round(time.monotonic() - _started, 3),
                "peak_memory_mb": round(peak_memory_mb(), 1),
            },
        },
    )


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _workflow_has_ended() -> bool:
    """Whether the announced workflow lived where this process can see it, and is gone."""
    announced = os.environ.get(WORKFLOW, "").split()
    # In a container processes have other numbers, so that nothing can be said.
    if len(announced) != 3 or announced[2] != _namespace():
        return False
    try:
        return psutil.Process(int(announced[0])).create_time() != float(announced[1])
    except psutil.NoSuchProcess:
        return True


def _namespace() -> str:
    """What tells the process numbers of a container from those outside."""
    link = Path("/proc/self/ns/pid")
    return os.readlink(link) if link.exists() else "none"


def _is_snakemake(process: psutil.Process) -> bool:
    try:
        return any("snakemake" in Path(word).name for word in process.cmdline()[:3])
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return False


def _explain(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Show an InputError as its message alone: the person needs the remedy, not our stack."""
    if issubclass(kind, InputError):
        print(f"error: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
