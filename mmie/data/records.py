"""Rows of a corpus file in one declared shape, as prompt and answer or as plain text.

A file has one shape. It is declared, or taken from the first row and then asked of every row; a field
that belongs to no shape is an error, because a field nobody reads is a misunderstanding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmie.data.jsonl import read_objects
from mmie.data.problems import Problem
from mmie.errors import InputError

# Shape -> (fields that must be there, fields that may be there).
SHAPES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "prompt_answer": (("prompt", "answer"), ("context",)),
    "instruction": (("instruction", "output"), ("input", "context")),
    "question": (("question", "answer"), ("context",)),
    "completion": (("prompt", "completion"), ("context",)),
    "messages": (("messages",), ()),
    "text": (("text",), ()),
}
# What a field of another shape means: it may repeat the row's own text, never contradict it.
_ALIASES = {
    "prompt": "prompt", "question": "prompt", "instruction": "prompt",
    "answer": "answer", "completion": "answer", "output": "answer",
    "text": "text",
}  # fmt: skip
METADATA = (
    "id", "example_id", "fact_id", "group", "template_id", "template_split", "relation", "kind",
    "language", "script", "split", "provenance", "aliases",
)  # fmt: skip
CHOICES: dict[str, tuple[str, ...]] = {
    "kind": ("direct", "mixed", "adversarial"),
    "split": ("fit", "dev", "test", "holdout"),
    "template_split": ("trained", "held_out"),
    "provenance": ("generated", "natural", "unknown"),
}
_IDENTIFIERS = ("id", "example_id", "fact_id", "group", "template_id")
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Record:
    """One row as the file gives it.

    Attributes:
        file: path as given.
        line: line number from 1.
        text: a plain text; None when the row has prompt and answer.
        prompt: what the model reads; empty for a plain text.
        answer: what it should say; empty for a plain text.
        metadata: the optional fields that the row gives, as text.
        aliases: other accepted answers.
    """

    file: str
    line: int
    text: str | None
    prompt: str
    answer: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Records:
    """The rows of one file, and the lines that are not what the file declares.

    Attributes:
        file: path as given.
        schema: shape of the rows.
        lines, blank: lines of the file and blank ones among them.
        rows: accepted rows in file order.
        problems: everything else, with line and reason.
        ignored: how many rows carry each field that the options say to ignore.
    """

    file: str
    schema: str
    lines: int
    blank: int
    rows: list[Record]
    problems: list[Problem]
    ignored: dict[str, int]


def read_records(
    path: str | Path,
    *,
    schema: str = "auto",
    encoding: str = "utf-8",
    ignored_fields: Sequence[str] = (),
) -> Records:
    """Read a JSONL corpus.

    Args:
        path: the file; its name carries no meaning.
        schema: one of SHAPES, or `auto` for the shape of the first row.
        encoding: a Python codec name, decoded strictly.
        ignored_fields: fields that rows may carry and nobody reads.

    Raises:
        InputError: the file is missing or empty, or its shape cannot be told.
    """
    if schema != "auto" and schema not in SHAPES:
        raise InputError(f"data.row_schema: {schema!r} is none of auto, {', '.join(SHAPES)}.")
    objects = read_objects(path, encoding=encoding)
    problems = list(objects.problems)
    if not objects.objects:
        return Records(objects.file, schema, objects.lines, objects.blank, [], problems, {})
    ignored = {name: 0 for name in ignored_fields}
    if schema == "auto":
        schema = _shape_of(objects.file, *objects.objects[0], ignored_fields)
    rows: list[Record] = []
    for line, content in objects.objects:
        for name in ignored:
            ignored[name] += name in content
        kept = {name: value for name, value in content.items() if name not in ignored}
        found = _record(objects.file, line, kept, schema)
        (problems if isinstance(found, Problem) else rows).append(found)  # type: ignore[arg-type]
    return Records(objects.file, schema, objects.lines, objects.blank, rows, sorted(problems), ignored)


def _shape_of(file: str, line: int, content: Mapping[str, Any], ignored: Sequence[str]) -> str:
    names = set(content) - set(ignored)
    for shape, (required, _) in SHAPES.items():
        if names.issuperset(required):
            return shape
    shapes = "; ".join(" + ".join(required) for required, _ in SHAPES.values())
    raise InputError(
        f"{file}:{line}: no known shape in the fields {', '.join(sorted(names)) or '(none)'}. "
        f"A row needs one of: {shapes}."
    )


def _record(file: str, line: int, content: Mapping[str, Any], schema: str) -> Record | Problem:
    """A record, or what keeps this object from being one."""

    def problem(reason: str, detail: str) -> Problem:
        return Problem(file, line, reason, detail)

    required, optional = SHAPES[schema]
    known = {*required, *optional, *METADATA}
    for name in required:
        if name not in content:
            return problem(
                "missing_field",
                f"the field {name!r} is missing; rows of this file are {' + '.join(required)}.",
            )
    for name in content:
        if name not in known and name not in _ALIASES:
            return problem("unknown_field", _unknown(name, known))
    try:
        text, prompt, answer = _texts(content, schema)
        metadata = _metadata(content)
        aliases = _accepted_answers(content.get("aliases"))
        _refuse_conflicts(content, known, {"text": text, "prompt": prompt, "answer": answer}, schema)
    except _BadFieldError as error:
        return problem(error.reason, str(error))
    return Record(file, line, text, prompt, answer, metadata, aliases)


class _BadFieldError(ValueError):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _unknown(name: str, known: set[str]) -> str:
    close = get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    return (
        f"unknown field {name!r}; the nearest known one is {close[0]!r}. "
        f"Rename it, or add it to data.ignored_fields."
    )


def _texts(content: Mapping[str, Any], schema: str) -> tuple[str | None, str, str]:
    """(plain text or None, prompt, answer) of a row; nothing that the row says is left out."""
    if schema == "text":
        return _string(content, "text"), "", ""
    if schema == "messages":
        prompt, answer = _conversation(content["messages"])
        return None, prompt, answer
    question, reply = SHAPES[schema][0]
    # Context first, then the task, then its input: the order of the files these shapes come from.
    parts = [
        _string(content, name) for name in ("context", question, "input") if content.get(name) is not None
    ]
    return None, "\n".join(part for part in parts if part), _string(content, reply)


def _conversation(messages: Any) -> tuple[str, str]:
    """Prompt and answer of a chat: the last assistant turn is the answer, all before it the prompt."""
    if not isinstance(messages, list) or not messages:
        raise _BadFieldError("bad_field", "'messages' must be a list of {role, content}.")
    for message in messages:
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise _BadFieldError("bad_field", "every message must have exactly 'role' and 'content'.")
        if message["role"] not in _ROLES or not isinstance(message["content"], str):
            raise _BadFieldError(
                "bad_field", f"a message's role must be one of {', '.join(_ROLES)}, its content text."
            )
    if messages[-1]["role"] != "assistant" or len(messages) < 2:
        raise _BadFieldError("bad_field", "the last of at least two messages must be the assistant's answer.")
    return "\n".join(message["content"] for message in messages[:-1]), messages[-1]["content"]


def _metadata(content: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in METADATA:
        value = content.get(name)
        if name == "aliases" or value is None:
            continue
        if name in _IDENTIFIERS and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or (name in _IDENTIFIERS and not value.strip()):
            raise _BadFieldError("bad_field", f"{name!r} must be text that is not empty, not {value!r}.")
        if name in CHOICES and value not in CHOICES[name]:
            raise _BadFieldError(
                "bad_field", f"{name!r} is {value!r}; it must be one of {', '.join(CHOICES[name])}."
            )
        found[name] = value
    if found.get("id", found.get("example_id")) != found.get("example_id", found.get("id")):
        raise _BadFieldError("conflict", "'id' and 'example_id' differ. Keep one of them.")
    if "id" in found:
        found["example_id"] = found.pop("id")
    return found


def _accepted_answers(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise _BadFieldError("bad_field", "'aliases' must be a list of texts.")
    return tuple(value)


def _refuse_conflicts(
    content: Mapping[str, Any], known: set[str], own: Mapping[str, str | None], schema: str
) -> None:
    """A field of another shape may repeat the row's text; a different text is an error."""
    for name, value in content.items():
        if name not in known and value != own[_ALIASES[name]]:
            canonical = " + ".join(SHAPES[schema][0])
            raise _BadFieldError(
                "conflict",
                f"the field {name!r} contradicts {canonical} of this row. Remove it, or add it to "
                "data.ignored_fields.",
            )


def _string(content: Mapping[str, Any], name: str) -> str:
    value = content[name]
    if not isinstance(value, str):
        raise _BadFieldError("bad_field", f"{name!r} must be text, not {type(value).__name__}: quote it.")
    return value
