"""Small corpora as JSONL files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

WriteRows = Callable[..., Path]


@pytest.fixture
def write_rows(tmp_path: Path) -> WriteRows:
    """Write rows as JSON Lines and return the file."""

    def write(rows: Sequence[Mapping[str, Any] | str], name: str = "rows.jsonl") -> Path:
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def facts() -> Callable[..., list[dict[str, str]]]:
    """Question and answer rows about towns that do not exist, one group each, in one language."""
    sentences = {
        "en": ("Which river runs through town {}?", "the river {}"),
        "hi": ("नगर {} से कौन सी नदी बहती है?", "नदी {}"),
        "hi_Latn": ("nagar {} se kaun si nadi bahti hai?", "nadi {}"),
        "bn": ("শহর {} দিয়ে কোন নদী বয়ে যায়?", "নদী {}"),
    }

    def make(language: str, count: int = 40, start: int = 0) -> list[dict[str, str]]:
        prompt, answer = sentences[language]
        return [
            {
                "id": f"town{number}/q1",
                "group": f"town{number}",
                "template_id": "river.q1",
                "prompt": prompt.format(number),
                "answer": answer.format(number),
            }
            for number in range(start, start + count)
        ]

    return make
