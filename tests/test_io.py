"""A result appears whole or not at all, and names and hashes do not depend on the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmie import io
from mmie.errors import InputError


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path):
    target = tmp_path / "table.json"
    io.write_json(target, {"a": 1})
    with pytest.raises(RuntimeError), io.atomic_path(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert json.loads(target.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.json"]


def test_a_failed_directory_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), io.atomic_directory(tmp_path / "arm") as folder:
        (folder / "half").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_directory_replaces_the_one_before(tmp_path):
    for content in ("old", "new"):
        with io.atomic_directory(tmp_path / "arm") as folder:
            (folder / content).write_text(content)
    assert [entry.name for entry in (tmp_path / "arm").iterdir()] == ["new"]


def test_results_are_readable_by_others(tmp_path):
    io.write_json(tmp_path / "a.json", {})
    assert (tmp_path / "a.json").stat().st_mode & 0o044


def test_not_a_number_becomes_null(tmp_path):
    io.write_json(tmp_path / "a.json", {"x": float("nan"), "y": [float("inf"), 1.5]})
    assert io.read_json(tmp_path / "a.json") == {"x": None, "y": [None, 1.5]}


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.json: no such file"):
        io.read_json(tmp_path / "absent.json")
    with pytest.raises(InputError, match=r"absent\.parquet: no such file"):
        io.read_parquet(tmp_path / "absent.parquet")
    (tmp_path / "half.json").write_text('{\n"a": ')
    with pytest.raises(InputError, match=r"half\.json:2: not valid JSON"):
        io.read_json(tmp_path / "half.json")


def test_tables_and_tensors_return_as_written(tmp_path):
    table = pd.DataFrame({"text": ["नमस्ते", "ہیلو"], "score": [0.5, float("nan")]})
    io.write_parquet(tmp_path / "t.parquet", table)
    pd.testing.assert_frame_equal(io.read_parquet(tmp_path / "t.parquet"), table, check_dtype=False)
    tensors = {"w": torch.arange(6.0).view(2, 3).T}
    io.write_safetensors(tmp_path / "w.safetensors", tensors)
    assert torch.equal(io.read_safetensors(tmp_path / "w.safetensors")["w"], tensors["w"])


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans(), max_size=6))
def test_hash_ignores_the_order_of_keys(content):
    assert io.stable_hash(content) == io.stable_hash(dict(reversed(content.items())))


def test_seeds_are_fixed_and_tell_names_apart():
    assert io.seed_from("a", "bc") != io.seed_from("ab", "c")
    # By hand: printf "x\\0001" | sha256sum, first 16 hex digits, shifted right by one bit.
    assert io.seed_from("x", 1) == int("ed2a0f431969336d", 16) >> 1
    assert 0 <= io.seed_from("x", 1) < 2**63


def test_directory_hash_sees_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1")
    first = io.sha256_directory(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert io.sha256_directory(tmp_path) != first


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_stays(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\nfrom mmie.io import atomic_directory\n"
        "with atomic_directory(sys.argv[1]) as folder:\n"
        "    (folder / 'half').write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(io.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "arm")], check=False, env=environment)
    assert len(list(tmp_path.glob(".arm.*.partial/half"))) == 1
    with io.atomic_directory(tmp_path / "arm") as first, io.atomic_directory(tmp_path / "arm"):
        assert first.is_dir()
        assert not list(tmp_path.glob(".arm.*.partial/half"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["arm"]
