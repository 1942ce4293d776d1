"""What careless export leaves around texts: list residue, stray quotes, markup, broken characters.

Every kind is counted over all rows, always; wrapping residue can be repaired.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import regex

from mmie.errors import InputError

KINDS = ("wrapping_residue", "unbalanced_quotes", "markup", "broken_characters")

_LIST_OPEN = regex.compile(r"""^\s*\[\s*(?=["'])""")
_LIST_CLOSE = regex.compile(r"""(?<=["'])\s*\]\s*,?\s*$""")
_QUOTE_COMMA = regex.compile(r"""(["'])\s*,\s*$""")
# A digit before the mark makes it inches or seconds, not a quotation.
_INCHES = regex.compile(r"(?<=\d)\"")
_MARKUP = regex.compile(
    r"</?[a-zA-Z][a-zA-Z0-9]*(?:\s[^<>]*)?/?>|&(?:amp|lt|gt|quot|nbsp|#\d+|#x[0-9a-fA-F]+);"
)
_BROKEN = regex.compile(r"\ufffd|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|[\u0080-\u009f]")
_PAIRS = (("“", "”"), ("«", "»"))


def artefacts_of(text: str) -> set[str]:
    """Kinds of artefact in a text, out of KINDS."""
    found: set[str] = set()
    if repaired(text) != text:
        found.add("wrapping_residue")
    if _unbalanced(text) and "wrapping_residue" not in found:
        found.add("unbalanced_quotes")
    if _MARKUP.search(text):
        found.add("markup")
    if _BROKEN.search(text):
        found.add("broken_characters")
    return found


def repaired(text: str) -> str:
    """`text` without what an unparsed list left around it; a text that is only quoted stays as it is.

    Removed are `[` before an opening quote and `]` after a closing one, a final quote and comma with the
    quote that opens the text, and a first or last `"` that has no partner.
    """
    inner = _LIST_CLOSE.sub("", _LIST_OPEN.sub("", text))
    residue = inner != text
    closing = _QUOTE_COMMA.search(inner)
    # `'` also ends English possessives: `the girls',` is only residue when the text opens with it.
    if closing and (closing.group(1) == '"' or inner.lstrip().startswith("'")):
        inner, residue = inner[: closing.start() + 1], True
    if not residue and not _stray_edge(inner):
        return text
    inner = inner.strip()
    for quote in ('"', "'"):
        if residue and len(inner) > 1 and inner.startswith(quote) and inner.endswith(quote):
            return inner[1:-1].strip()
    if _INCHES.sub("", inner).count('"') % 2:
        inner = inner[1:] if inner.startswith('"') else inner.removesuffix('"')
    return inner.strip()


def artefact_counts(rows: Iterable[Sequence[str]]) -> dict[str, int]:
    """Number of rows with each kind of artefact in any of their texts, over all rows.

    Args:
        rows: the texts of each row.

    Raises:
        InputError: no rows; a rate of nothing is undefined.
    """
    counts: Counter[str] = Counter({kind: 0 for kind in KINDS})
    number = 0
    for texts in rows:
        number += 1
        counts.update(set().union(*(artefacts_of(text) for text in texts)))
    if number == 0:
        raise InputError("artefact rates of no rows are undefined. Check the filters before this one.")
    return dict(counts)


def _stray_edge(text: str) -> bool:
    """A first or last `"` without a partner anywhere in the text."""
    plain = _INCHES.sub("", text.strip())
    return plain.count('"') % 2 == 1 and (plain.startswith('"') or plain.endswith('"'))


def _unbalanced(text: str) -> bool:
    plain = _INCHES.sub("", text)
    return plain.count('"') % 2 == 1 or any(
        plain.count(opening) != plain.count(closing) for opening, closing in _PAIRS
    )
