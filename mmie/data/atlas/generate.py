"""Write the corpus: one JSONL file a language, the triples, and a data card counted from the files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmie.data.atlas.card import data_card
from mmie.data.atlas.configuration import load_configuration
from mmie.data.atlas.rows import facts_of, rows_of
from mmie.data.atlas.triples import triples_of
from mmie.errors import InputError
from mmie.io import atomic_path


def generate(configuration_path: str | Path, directory: str | Path) -> list[Path]:
    """Generate Atlas into `directory`; the same configuration gives the same bytes.

    Args:
        configuration_path: `atlas.yaml`.
        directory: gets `{language}.jsonl`, `triples/{language}.jsonl` and `README.md`.

    Returns:
        The files written, in the order they were written.

    Errors:
        InputError for an unusable configuration, or when no fact is left.
    """
    configuration = load_configuration(configuration_path)
    directory = Path(directory)
    facts = facts_of(configuration)
    if not facts:
        raise InputError(f"{configuration_path}: no fact is named in every base language. Take one out.")
    written = []
    for language in configuration.languages:
        path = directory / f"{language}.jsonl"
        write_rows(path, rows_of(configuration, facts, language))
        written.append(path)
    for language in configuration.languages:
        if language == configuration.bridge:
            continue
        path = directory / "triples" / f"{language}.jsonl"
        write_rows(path, triples_of(configuration, facts, language))
        written.append(path)
    card = directory / "README.md"
    with atomic_path(card) as partial:
        partial.write_text(data_card(directory, list(configuration.languages)), encoding="utf-8")
    return [*written, card]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines, UTF-8, in their order and with their order of fields."""
    with atomic_path(path) as partial, open(partial, "w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
