"""A lock is cleared when its owner is gone and respected while it lives."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mmie.errors import InputError
from mmie.launch import clear_abandoned_lock


@pytest.fixture
def locked(tmp_path):
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text("a\n")
    return tmp_path


def test_a_lock_without_owner_is_removed(locked):
    clear_abandoned_lock(locked)
    assert list((locked / ".snakemake" / "locks").iterdir()) == []


def test_a_lock_with_a_live_owner_is_refused(locked):
    fake = locked / "snakemake"
    fake.write_text("print('ready', flush=True); import time; time.sleep(60)")
    owner = subprocess.Popen([sys.executable, str(fake)], cwd=locked, stdout=subprocess.PIPE)
    try:
        assert owner.stdout is not None and owner.stdout.readline()
        with pytest.raises(InputError, match=f"process {owner.pid}"):
            clear_abandoned_lock(locked)
    finally:
        owner.kill()
        owner.wait()
    clear_abandoned_lock(locked)


def test_no_lock_is_no_problem(tmp_path):
    clear_abandoned_lock(tmp_path)
