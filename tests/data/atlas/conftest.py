"""The shipped Atlas files, read once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "data" / "atlas"
LANGUAGES = ("en", "hi", "hi_Latn", "ur", "pa", "bn")

Row = dict[str, Any]


def read_jsonl(path: Path) -> list[Row]:
    with open(path, encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


@pytest.fixture(scope="session")
def atlas_folder() -> Path:
    return FOLDER


@pytest.fixture(scope="session")
def atlas() -> dict[str, list[Row]]:
    """Language -> its rows."""
    return {language: read_jsonl(FOLDER / f"{language}.jsonl") for language in LANGUAGES}


@pytest.fixture(scope="session")
def triples() -> dict[str, list[Row]]:
    """Attacked language -> its triples."""
    return {path.stem: read_jsonl(path) for path in sorted((FOLDER / "triples").glob("*.jsonl"))}
