"""Which scripts a text is written in: evidence by the Unicode Script property.

The property decides, never the code block: the danda U+0964 sits in the Devanagari block but belongs
to the script Common, because Bengali, Punjabi and many others end their sentences with it.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable

import regex

MIXED = "mixed"
NO_LETTERS = "none"
OTHER_SCRIPT = "Zzzz"

# ISO 15924 code -> name of the Unicode Script property.
SCRIPT_NAMES: dict[str, str] = {
    "Latn": "Latin",
    "Deva": "Devanagari",
    "Arab": "Arabic",
    "Guru": "Gurmukhi",
    "Beng": "Bengali",
    "Gujr": "Gujarati",
    "Orya": "Oriya",
    "Taml": "Tamil",
    "Telu": "Telugu",
    "Knda": "Kannada",
    "Mlym": "Malayalam",
    "Sinh": "Sinhala",
    "Cyrl": "Cyrillic",
    "Grek": "Greek",
    "Hebr": "Hebrew",
    "Armn": "Armenian",
    "Geor": "Georgian",
    "Ethi": "Ethiopic",
    "Hani": "Han",
    "Hira": "Hiragana",
    "Kana": "Katakana",
    "Hang": "Hangul",
    "Bopo": "Bopomofo",
    "Thai": "Thai",
    "Laoo": "Lao",
    "Khmr": "Khmer",
    "Mymr": "Myanmar",
    "Tibt": "Tibetan",
    "Mong": "Mongolian",
    "Thaa": "Thaana",
    "Syrc": "Syriac",
    "Olck": "Ol_Chiki",
    "Mtei": "Meetei_Mayek",
    "Cher": "Cherokee",
    "Cans": "Canadian_Aboriginal",
    "Tfng": "Tifinagh",
    "Nkoo": "Nko",
    "Java": "Javanese",
    "Adlm": "Adlam",
    "Yiii": "Yi",
}

# ISO 15924 codes of writing systems that use several scripts, or one script under another name.
COMPOSITES: dict[str, frozenset[str]] = {
    "Jpan": frozenset({"Hani", "Hira", "Kana"}),
    "Kore": frozenset({"Hang", "Hani"}),
    "Hans": frozenset({"Hani"}),
    "Hant": frozenset({"Hani"}),
}

_NEUTRAL = regex.compile(r"[\p{Script=Common}\p{Script=Inherited}]")
_ASCII_LETTER = regex.compile("[A-Za-z]")
_PATTERNS = {code: regex.compile(rf"\p{{Script={name}}}") for code, name in SCRIPT_NAMES.items()}


class _CharacterScripts(dict[str, str | None]):
    """Script of every character met so far; a character is looked up once."""

    def __missing__(self, character: str) -> str | None:
        script = self[character] = _look_up(character)
        return script


def _look_up(character: str) -> str | None:
    if unicodedata.category(character)[0] not in "LM" or _NEUTRAL.match(character):
        return None
    for code, pattern in _PATTERNS.items():
        if pattern.match(character):
            return code
    return OTHER_SCRIPT


_character_scripts = _CharacterScripts()


def character_script(character: str) -> str | None:
    """ISO 15924 code of a letter or mark; None where the character is no evidence for any script.

    No evidence: digits, punctuation and symbols of every block, and letters or marks whose script
    is Common or Inherited (danda, zero-width joiners, stress mark U+0951). A script without an
    entry in `SCRIPT_NAMES` is `Zzzz`.
    """
    return _character_scripts[character]


def script_counts(text: str) -> Counter[str]:
    """Number of letters and marks of each script in `text`, by ISO 15924 code."""
    counts = Counter(map(_character_scripts.__getitem__, text))
    del counts[None]
    return counts  # type: ignore[return-value]


def script_shares(text: str) -> dict[str, float]:
    """Share of each script among the letters and marks of `text`; sums to 1.

    Shares are fractions in (0, 1], largest first, ties by code. A text without letters has none: {}.
    """
    counts = script_counts(text)
    total = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {script: count / total for script, count in ordered}


def script_share(text: str, script: str | Iterable[str]) -> float:
    """SS(y, S): share of the letters and marks of `text` that belong to `script`.

    SS = #{letters or marks of script S} / #{letters or marks of any script but Common, Inherited}.

    Args:
        text: any text.
        script: an ISO 15924 code, composite ones such as `Jpan` included, or several codes.

    Returns:
        Fraction in [0, 1]; NaN for a text without letters.
    """
    counts = script_counts(text)
    total = sum(counts.values())
    if total == 0:
        return math.nan
    codes = {script} if isinstance(script, str) else set(script)
    wanted = codes.union(*(COMPOSITES.get(code, frozenset()) for code in codes))
    return sum(count for code, count in counts.items() if code in wanted) / total


def dominant_script(text: str, *, threshold: float = 0.8) -> str:
    """The script with at least `threshold` of the letters, else "mixed"; "none" without letters.

    Japanese and Korean are `Jpan` and `Kore` where no single script of theirs reaches the threshold.
    Script is not language: Marathi and Nepali share Devanagari with Hindi, Persian shares Arabic
    with Urdu. Nothing in MMIE turns this answer into a language by itself.
    """
    if text.isascii():  # the common case, without counting
        return "Latn" if _ASCII_LETTER.search(text) else NO_LETTERS
    shares = script_shares(text)
    if not shares:
        return NO_LETTERS
    script, share = next(iter(shares.items()))
    if share >= threshold:
        return script
    for composite in ("Jpan", "Kore"):
        if sum(shares.get(code, 0.0) for code in COMPOSITES[composite]) >= threshold:
            return composite
    return MIXED
