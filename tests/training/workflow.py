"""The real workflow in an empty folder: the project linked in, results and configuration of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("Snakefile", "rules", "scripts", "mmie", "config", "data", "envs", "docs")


def linked_project(folder: Path) -> Path:
    """Link the project into a folder; nothing is written outside it."""
    for name in PARTS:
        (folder / name).symlink_to(ROOT / name)
    return folder


def snakemake(folder: Path, *arguments: str, timeout: int = 1800) -> subprocess.CompletedProcess[str]:
    """Run Snakemake there; the caller looks at its exit status."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=timeout,
    )  # fmt: skip


def write_yaml(file: Path, content: Any) -> str:
    """Write a configuration and return its name."""
    file.write_text(yaml.safe_dump(content))
    return file.name
