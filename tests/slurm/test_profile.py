"""The SLURM profile, as far as it can be checked without a cluster; `tests/slurm/run` does the rest."""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from snakemake.cli import get_argument_parser
from snakemake_executor_plugin_slurm.partitions import get_best_partition, read_partition_file
from snakemake_executor_plugin_slurm.utils import set_gres_string

HERE = Path(__file__).parent
PROFILE = HERE.parent.parent / "profiles" / "slurm"
RUN = HERE / "run"


def job(**resources: int) -> SimpleNamespace:
    """What the plugin sees of a job."""
    return SimpleNamespace(name="job", threads=1, resources={"mem_mb": 2000, "runtime": 30, **resources})


def partition_of(chosen: SimpleNamespace) -> str | None:
    partitions = read_partition_file(PROFILE / "partitions.yaml")
    return get_best_partition(partitions, chosen, logging.getLogger())


def test_a_job_that_asks_for_a_gpu_goes_to_the_gpu_partition() -> None:
    assert partition_of(job(gpu=1)) == "gpu"
    assert set_gres_string(job(gpu=1)).split() == ["--gpus=1"]


def test_a_job_without_gpu_leaves_the_gpu_partition_alone() -> None:
    assert partition_of(job(gpu=0)) == "cpu"
    assert set_gres_string(job(gpu=0)) == ""


@pytest.mark.parametrize("folder", [PROFILE, HERE / "profile"])
def test_snakemake_knows_every_key_of_the_profiles(folder: Path) -> None:
    known = {text.lstrip("-") for action in get_argument_parser()._actions for text in action.option_strings}
    keys = yaml.safe_load((folder / "profile.yaml").read_text())
    assert {key for key in keys if not key.startswith("slurm-")} <= known


def test_retries_are_the_profile_s_so_that_each_is_a_job_of_its_own() -> None:
    assert yaml.safe_load((PROFILE / "profile.yaml").read_text())["retries"] >= 1
    rules = PROFILE.parent.parent / "rules"
    assert not [file.name for file in rules.glob("*.smk") if "retries:" in file.read_text()]


def run_without_apt(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The runner on a system that has no package manager of Debian's kind."""
    programs = folder / "programs"
    programs.mkdir()
    for name in ("bash", "dirname", "uname", "realpath"):
        source = next(path for path in ("/usr/bin", "/bin") if os.access(f"{path}/{name}", os.X_OK))
        (programs / name).symlink_to(f"{source}/{name}")
    # Root as far as the runner can tell, also where the tests run as somebody else.
    (programs / "id").write_text("#!/usr/bin/env bash\necho 0\n")
    (programs / "id").chmod(0o755)
    return subprocess.run(
        [programs / "bash", RUN], env={"PATH": str(programs), **environment}, capture_output=True, text=True
    )


def test_the_runner_says_why_it_cannot_run(tmp_path: Path) -> None:
    done = run_without_apt(tmp_path)
    assert done.stdout.startswith("cannot run: ")
    assert done.returncode == 0


def test_in_continuous_integration_not_running_is_a_failure(tmp_path: Path) -> None:
    done = run_without_apt(tmp_path, CI="true")
    assert done.stdout.startswith("cannot run: ")
    assert done.returncode == 1
