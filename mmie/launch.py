"""`make run`: clear what a killed run left behind, run the workflow, say where the report is."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import psutil

from mmie.errors import InputError


def main() -> int:
    """Run Snakemake with the given arguments in the current directory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", default="1")
    arguments, rest = parser.parse_known_args()
    snakemake = [sys.executable, "-m", "snakemake", "--cores", arguments.cores]
    try:
        clear_abandoned_lock(Path.cwd())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    code = subprocess.run([*snakemake, *rest], check=False).returncode
    if code == 0:
        reports = sorted(Path("results").glob("*/report.html"), key=lambda file: file.stat().st_mtime)
        if reports:
            print(f"\nThe report is {reports[-1].resolve()}\n")
    return code


def clear_abandoned_lock(workdir: Path) -> None:
    """Remove Snakemake's lock on `workdir` if the process that took it is gone.

    Raises:
        InputError: a live Snakemake works in this directory.
    """
    locks = workdir / ".snakemake" / "locks"
    if not locks.is_dir() or not any(locks.iterdir()):
        return
    if owner := _snakemake_at_work(workdir):
        raise InputError(
            f"{workdir}: Snakemake (process {owner}) is running here. Wait for it or end it first."
        )
    print("A run that was killed left a lock behind: removing it.", file=sys.stderr)
    for lock in locks.iterdir():
        lock.unlink()


def _snakemake_at_work(workdir: Path) -> int | None:
    own = {psutil.Process().pid, *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = process.info["cmdline"] or []
        # Only the interpreter's own first words count: an editor with a Snakefile open is no run.
        if process.pid in own or not any("snakemake" in Path(word).name for word in words[:3]):
            continue
        try:
            if Path(process.cwd()) == workdir:
                return int(process.pid)
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return None


if __name__ == "__main__":
    sys.exit(main())
