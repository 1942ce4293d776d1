"""A copy of the project in a folder with an awkward name, and ways to run its workflow there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REDUCED = "tests/e2e/reduced.yaml"


class Project:
    """A checkout that tests may run, edit and kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results" / "reduced"
        # The copy's own library must win over an installed one.
        self.environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}

    def command(self, *arguments: str, module: str = "snakemake") -> list[str]:
        return [sys.executable, "-m", module, "--cores", "2", "--configfile", REDUCED, *arguments]

    def run(self, *arguments: str, module: str = "snakemake") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, module=module),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )

    def module(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a module of the copy."""
        return subprocess.run(
            [sys.executable, "-m", name, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs by rule that a run would execute."""
        result = self.run("--dry-run", *arguments)
        assert result.returncode == 0, result.stdout + result.stderr
        text = result.stdout + result.stderr
        if "Nothing to be done" in text:
            return {}
        table = text.rsplit("Job stats:", 1)[1].split("total")[0]
        return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)\s*$", table, re.MULTILINE)}

    def summary(self) -> dict[str, bytes]:
        """Every byte of the summary but the manifest, which holds this run's wall time."""
        files = sorted((self.results / "summary").iterdir())
        return {file.name: file.read_bytes() for file in files if file.name != "manifest.json"}


def copy_project(folder: Path) -> Project:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, listed):
        source = ROOT / name
        if source.is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return Project(folder)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The reduced experiment, run once to its end."""
    made = copy_project(tmp_path_factory.mktemp("clone") / "a b's")
    result = made.run()
    assert result.returncode == 0, (result.stdout + result.stderr)[-6000:]
    return made
