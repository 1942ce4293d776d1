"""JSON objects from a file, one a line, strictly: nothing is guessed and nothing is lost unseen."""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmie.data.problems import Problem
from mmie.errors import InputError

_BOM = codecs.BOM_UTF8


@dataclass(frozen=True)
class Objects:
    """The objects of one file.

    Attributes:
        file: path as given.
        lines: number of lines, blank ones included.
        blank: number of blank lines, which hold nothing and are passed over.
        objects: (line number from 1, object) in file order.
        problems: lines that hold no object; a caller that goes on must count them.
    """

    file: str
    lines: int
    blank: int
    objects: list[tuple[int, dict[str, Any]]]
    problems: list[Problem]


def read_objects(path: str | Path, *, encoding: str = "utf-8") -> Objects:
    """Read JSON Lines: strict decoding, a byte order mark accepted, one object a line.

    Lines end at a line feed only: U+2028 and its kin are legal inside JSON strings.

    Args:
        path: the file.
        encoding: a Python codec name; errors are never replaced or ignored.

    Raises:
        InputError: no such file, an unknown encoding, or no line with content.
    """
    name = str(path)
    data = _bytes_of(path)
    lines, problems = _decode(name, data, _codec(encoding))
    objects: list[tuple[int, dict[str, Any]]] = []
    blank = 0
    for number, start, line in lines:
        if not line.strip():
            blank += 1
            continue
        found = _parse(name, number, start, line)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            objects.append((number, found))
    if not objects and not problems:
        raise InputError(f"{name}: the file holds no rows. Give one JSON object a line.")
    return Objects(name, len(lines), blank, objects, sorted(problems))


def _bytes_of(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Correct the path under data.corpora.") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a directory, not a file. Name the JSONL files themselves.") from None


def _codec(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise InputError(f"data.encoding: {encoding!r} is not a known encoding. Use e.g. utf-8.") from None


def _decode(name: str, data: bytes, codec: str) -> tuple[list[tuple[int, int, str]], list[Problem]]:
    """Lines as (number, byte offset, text); a line that does not decode is a problem and left blank."""
    if codec not in ("utf-8", "utf-8-sig"):
        return _decode_whole(name, data, codec)
    offset = len(_BOM) if data.startswith(_BOM) else 0
    lines: list[tuple[int, int, str]] = []
    problems: list[Problem] = []
    for number, raw in enumerate(data[offset:].split(b"\n"), start=1):
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            text = ""
            problems.append(_undecodable(name, number, offset + error.start, "UTF-8", error))
        lines.append((number, offset, text))
        offset += len(raw) + 1
    if lines and not lines[-1][2] and data.endswith(b"\n"):
        lines.pop()
    return lines, problems


def _decode_whole(name: str, data: bytes, codec: str) -> tuple[list[tuple[int, int, str]], list[Problem]]:
    """As `_decode`, for encodings whose line ends are not single bytes (byte offsets unknown)."""
    try:
        text = data.decode(codec).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(codec, errors="replace").count("\n") + 1
        return [], [_undecodable(name, line, error.start, codec, error)]
    parts = text.split("\n")
    if parts and not parts[-1]:
        parts.pop()
    return [(number, -1, part) for number, part in enumerate(parts, start=1)], []


def _undecodable(name: str, line: int, byte: int, codec: str, error: UnicodeDecodeError) -> Problem:
    detail = (
        f"invalid {codec} at byte {byte} ({error.reason}). "
        "Re-encode the file, or set data.encoding, e.g. to cp1252."
    )
    return Problem(name, line, "invalid_encoding", detail, byte)


def _parse(name: str, number: int, start: int, line: str) -> dict[str, Any] | Problem:
    try:
        found = json.loads(line, object_pairs_hook=_object, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        byte = start + len(line[: error.pos].encode()) if start >= 0 else -1
        detail = f"invalid JSON at column {error.colno} ({error.msg}). Write one JSON object a line."
        return Problem(name, number, "invalid_json", detail, byte)
    except ValueError as error:
        return Problem(name, number, "invalid_json", f"invalid JSON: {error}", start)
    except RecursionError:
        return Problem(name, number, "invalid_json", "invalid JSON: nested too deeply. Flatten it.", start)
    if not isinstance(found, dict):
        detail = f"a JSON {type(found).__name__}, not an object. Write one JSON object a line."
        return Problem(name, number, "not_an_object", detail, start)
    if "\\u" in line and _has_lone_surrogate(found):
        detail = "half of a surrogate pair (\\ud800-\\udfff) is no character. Write the text as UTF-8."
        return Problem(name, number, "invalid_json", detail, start)
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is given twice. Keep one.")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON. Use null.")


def _has_lone_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
