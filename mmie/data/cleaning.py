"""Records as rows with prompt and answer, or the reason why a record makes no row."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from dataclasses import dataclass, field

import regex

from mmie.data.artefacts import artefacts_of, repaired
from mmie.data.comparison import ZERO_WIDTH, row_key
from mmie.data.options import DataOptions
from mmie.data.problems import Problem
from mmie.data.records import Record

_WORD = regex.compile(r"\S+")
_EDGES = "".join(sorted({*ZERO_WIDTH} - {"\u200c", "\u200d"}))
_DEFAULTS = {
    "template_id": "", "template_split": "trained", "relation": "", "kind": "direct",
    "split": "", "provenance": "unknown",
}  # fmt: skip

Row = dict[str, str | int]


@dataclass
class Cleaned:
    """Rows and rejections of any number of files.

    Attributes:
        rows: one mapping a row with the columns of `data/{language}.parquet`.
        rejected: records that make no row, with the reason.
        residue: `found` rows with wrapping residue and `repaired` ones among them.
        given: how many records carry each optional field.
    """

    rows: list[Row] = field(default_factory=list)
    rejected: list[Problem] = field(default_factory=list)
    residue: Counter[str] = field(default_factory=Counter)
    given: Counter[str] = field(default_factory=Counter)


def clean(records: list[Record], language: str, script: str, options: DataOptions) -> Cleaned:
    """Bring records into the row schema: NFC, edges stripped, residue repaired if asked, ids filled in.

    A row without id gets the hash of its content, so that neither the file's name nor the order of its
    lines changes anything; a row without group is its own group.

    Args:
        records: of one language.
        language: its code, such as `hi_Latn`.
        script: ISO 15924 code of the language's texts.
        options: of the data stage.
    """
    result = Cleaned()
    for record in records:
        result.given.update(record.metadata.keys())
        found = _row(record, language, script, options, result.residue)
        if isinstance(found, Problem):
            result.rejected.append(found)
        else:
            result.rows.append(found)
    return result


def _row(
    record: Record, language: str, script: str, options: DataOptions, residue: Counter[str]
) -> Row | Problem:
    def reject(reason: str, detail: str) -> Problem:
        return Problem(record.file, record.line, reason, detail)

    for name, expected in (("language", language), ("script", script)):
        given = record.metadata.get(name, expected)
        if given != expected:
            return reject(
                f"{name}_mismatch",
                f"the row says {name} {given}, its file holds {expected}. Move or correct it.",
            )
    texts = [record.prompt, record.answer] if record.text is None else [record.text]
    if any("wrapping_residue" in artefacts_of(_plain(text)) for text in texts):
        residue["found"] += 1
        if options.repair_residue:
            texts = [repaired(_plain(text)) for text in texts]
            residue["repaired"] += 1
    texts = [_plain(text) for text in texts]
    if not all(texts):
        return reject("empty_text", "the text is empty after cleaning. Remove the row or fill it in.")
    if len(texts) == 1:
        halves = split_text(texts[0], options.prompt_share)
        if halves is None:
            return reject("too_short", "one word cannot become a prompt and an answer. Lengthen the text.")
        texts = list(halves)
    prompt, answer = texts
    return _filled(record, language, script, prompt, answer)


def _filled(record: Record, language: str, script: str, prompt: str, answer: str) -> Row:
    given = record.metadata
    example_id = given.get("example_id") or row_key(prompt, answer)
    fact_id = given.get("fact_id") or example_id
    group = given.get("group") or given.get("fact_id") or example_id
    row: Row = {"example_id": example_id, "fact_id": fact_id, "group": group}
    row |= {name: given.get(name, default) for name, default in _DEFAULTS.items()}
    row |= {"language": language, "script": script, "prompt": prompt, "answer": answer}
    aliases = json.dumps(list(record.aliases), ensure_ascii=False)
    return row | {"aliases": aliases, "file": record.file, "line": record.line}


def split_text(text: str, prompt_share: float) -> tuple[str, str] | None:
    """First words of a text as prompt, the rest as answer; None for fewer than two words.

    At least one word falls to each side, whatever the share.
    """
    starts = [match.start() for match in _WORD.finditer(text)]
    if len(starts) < 2:
        return None
    words = min(max(round(len(starts) * prompt_share), 1), len(starts) - 1)
    return text[: starts[words]].rstrip(), text[starts[words] :].strip()


def _plain(text: str) -> str:
    """NFC without spaces, invisible marks or byte order marks at the edges; joiners stay."""
    normal = unicodedata.normalize("NFC", text)
    stripped = normal.strip()
    while stripped != (stripped := stripped.strip(_EDGES).strip()):
        pass
    return stripped if stripped.strip(ZERO_WIDTH).strip() else ""
