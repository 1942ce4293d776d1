"""Activations are made once: the same things again cost no forward pass, any other thing does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from mmie.activations import identity
from mmie.activations.extract import ExtractionOptions, extract_language
from mmie.io import read_json, sha256_directory

Extract = Callable[..., int]


@pytest.fixture
def passes(
    tmp_path: Path, toy_model: Any, toy_tokenizer: Any, toy_rows: Callable[..., pd.DataFrame]
) -> Extract:
    """Extract into one folder and say how many forward passes that took."""

    def run(options: ExtractionOptions | None = None, rows: pd.DataFrame | None = None) -> int:
        calls = []
        watch = toy_model.model.register_forward_pre_hook(lambda *_: calls.append(1))
        try:
            given = toy_rows("xx") if rows is None else rows
            extract_language(toy_model, toy_tokenizer, given, tmp_path / "xx", options)
        finally:
            watch.remove()
        return len(calls)

    return run


@pytest.mark.regression("ACT-23")
def test_a_second_call_does_no_forward_pass_and_changes_no_byte(passes: Extract, tmp_path: Path) -> None:
    assert passes() > 0
    before, report = sha256_directory(tmp_path / "xx"), read_json(tmp_path / "xx/extraction.json")
    assert passes() == 0
    assert sha256_directory(tmp_path / "xx") == before
    assert read_json(tmp_path / "xx/extraction.json") == report


@pytest.mark.regression("ACT-23")
@pytest.mark.parametrize(
    "part", ["model", "identity", "data", "split", "tokenizer", "layers", "hook_point", "settings", "code"]
)
def test_a_change_of_any_part_of_the_key_misses(
    part: str,
    passes: Extract,
    toy_model: Any,
    toy_tokenizer: Any,
    toy_rows: Callable[..., pd.DataFrame],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options, rows = ExtractionOptions(), toy_rows("xx")
    assert passes(options, rows) > 0
    if part == "model":
        with torch.no_grad():
            toy_model.model.norm.weight[0] += 1e-3
    elif part == "identity":
        options = replace(options, identity={"model.safetensors": "another"})
    elif part == "data":
        rows.loc[3, "prompt"] = rows.loc[3, "prompt"].replace(" ", " w9 ", 1)
    elif part == "split":
        rows.loc[3, "split"] = "dev"
    elif part == "tokenizer":
        toy_tokenizer.add_special_tokens({"additional_special_tokens": ["w9"]})
    elif part == "layers":
        options = replace(options, layers=(1,))
    elif part == "hook_point":
        monkeypatch.setattr(identity, "HOOK_POINT", "input of the block")
    elif part == "settings":
        options = replace(options, sink_factor=5.0)
    else:
        # What an edited source file would give.
        monkeypatch.setattr(identity, "source_hash", lambda files: "edited")
    assert passes(options, rows) > 0
    assert passes(options, rows) == 0


@pytest.mark.regression("ACT-23")
def test_the_code_of_the_key_is_that_of_extraction_and_all_that_it_reaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [identity.MODULE, *identity.code_files(identity.MODULE)]
    assert {"mmie/models/hooks.py", "mmie/models/prompts.py", "mmie/activations/storage.py"} <= set(files)
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes((identity.ROOT / file).read_bytes())
    before = identity.source_hash(files)
    monkeypatch.setattr(identity, "ROOT", tmp_path)
    assert identity.source_hash(files) == before
    with open(tmp_path / "mmie/models/hooks.py", "a") as stream:
        stream.write("# edited\n")
    assert identity.source_hash(files) != before
