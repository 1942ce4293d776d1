"""When two texts count as the same: one definition for duplicates, leaks and overlaps."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

import regex

# Characters without width or meaning of their own. The joiners U+200C and U+200D shape Indic and Arabic
# letters, so texts keep them; two texts that differ in nothing else still say the same.
ZERO_WIDTH = (
    "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_INVISIBLE = {ord(character): None for character in ZERO_WIDTH}
_PUNCTUATION = regex.compile(r"\p{P}+")
NGRAM = 13


# Every check of the stage asks for the keys of the same texts.
@lru_cache(maxsize=1 << 16)
def comparison_key(text: str) -> str:
    """`text` without differences of case, Unicode form, zero-width characters, punctuation, spacing.

    Symbols stay (`$` and `€` differ), and so do marks. A text of punctuation alone is its own key.
    """
    visible = unicodedata.normalize("NFC", text).translate(_INVISIBLE).casefold()
    words = _PUNCTUATION.sub(" ", visible).split()
    return unicodedata.normalize("NFC", " ".join(words)) if words else " ".join(visible.split())


def row_key(prompt: str, answer: str) -> str:
    """What makes two rows duplicates: the same prompt and the same answer; 128-bit, hexadecimal."""
    return text_hash(f"{comparison_key(prompt)}\x1f{comparison_key(answer)}")


def text_hash(text: str) -> str:
    """128-bit hash of a text, hexadecimal; independent of the process."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()


def ngrams(text: str, size: int = NGRAM) -> set[str]:
    """Word n-grams of a text after `comparison_key`; empty for a text of fewer words."""
    words = comparison_key(text).split()
    return {" ".join(words[start : start + size]) for start in range(len(words) - size + 1)}


def ids_hash(ids: Iterable[str]) -> str:
    """Hash of a set of ids, independent of their order: the name of a sample or an evaluation set."""
    return text_hash("\n".join(sorted(ids)))


def row_keys(prompts: Sequence[str], answers: Sequence[str]) -> list[str]:
    """`row_key` of every row."""
    return [row_key(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
