"""Romanisation that reads like what people type.

Scholarly schemes (`bhArata`, `raajabhaassaa`) rarely match casual spelling, which would bias every score
on romanised text. Hindi is therefore prepared in Devanagari first (unspoken schwas deleted, nasal signs
and letters that casual spelling merges resolved), then spelled by `uroman`, then shortened the way people
do (`aa` -> `a`). Other languages are spelled by `uroman` alone.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from mmie.errors import InputError

SCHEME = "uroman + colloquial Hindi 1"

_VIRAMA = "\u094d"
_CONSONANT = "[\u0915-\u0939]\u093c?"
_VOWEL_SIGNS = "\u093e-\u094c"
_DEVANAGARI_WORD = re.compile("[\u0900-\u0963\u0970-\u097f]+")

# Letters that casual spelling does not keep apart, so that uroman does not write them double.
_MERGED = str.maketrans("टठडढणष", "तथदधनश")
_NUKTA_LETTERS = {"ड़": "द", "ढ़": "ध", "ग़": "ग", "ऱ": "र", "ऩ": "न", "य़": "य", "ळ": "ल"}
_LABIALS = "पफबभम"

_SPELLING = (
    ("cch", "chh"),
    ("(?<!c)ch(?!h)", "chh"),
    ("c(?!h)", "ch"),
    ("jny", "gy"),
    ("ava", "awa"),
    # One plain syllable keeps its long a: naam, aap; not frans. Upper case saves it from the next rule.
    ("^([^aeiou]h?|)aa(?=[^aeiou]h?$)", r"\1AA"),
    ("aa", "a"),
    ("ii", "i"),
    ("uu", "u"),
    ("(?<=[bdghjkst])v", "w"),
)


def romanise(text: str, language: str) -> str:
    """Spell `text` in Latin letters.

    Args:
        text: text in the native script of `language`; Latin parts and digits pass through.
        language: its code; only the part before `_` counts.

    Errors:
        InputError when uroman is missing, when native letters are left, or when nothing changed.
    """
    text = unicodedata.normalize("NFC", text)
    if language.split("_")[0] == "hi":
        text = text.replace("॥", ".").replace("।", ".")
        result = _DEVANAGARI_WORD.sub(lambda word: _spell_hindi(word.group()), text)
    else:
        result = _uroman().romanize_string(text).lower()
    check_romanised(text, result)
    return result


def check_romanised(source: str, result: str) -> None:
    """Refuse a romanisation that keeps native letters or equals its source."""
    left = sorted({letter for letter in result if letter.isalpha() and not _is_latin(letter)})
    if left:
        raise InputError(
            f"romanisation of {source!r}: letters {''.join(left)!r} are left. Spell it in Latin letters."
        )
    if result == source:
        raise InputError(
            f"romanisation of {source!r}: the result equals its source. Give text in the native script."
        )


def agreement(words: Mapping[str, Iterable[str]], spelled: Mapping[str, str]) -> float:
    """Share of `words` whose spelling is one that people use.

    Args:
        words: native word -> spellings accepted by hand.
        spelled: native word -> the spelling under test.
    """
    if not words:
        raise InputError("romanisation word list: it is empty. Give at least one word.")
    return sum(spelled[word] in set(accepted) for word, accepted in words.items()) / len(words)


@functools.cache
def _spell_hindi(word: str) -> str:
    spelled = _uroman().romanize_string(_prepare(word), lcode="hin").lower()
    for pattern, replacement in _SPELLING:
        spelled = re.sub(pattern, replacement, spelled)
    return spelled.lower()


def _prepare(word: str) -> str:
    """Devanagari with every unspoken vowel marked and every merged letter replaced."""
    word = unicodedata.normalize("NFC", word).replace("\u200c", "").replace("\u200d", "")
    for letter, merged in _NUKTA_LETTERS.items():
        word = word.replace(unicodedata.normalize("NFC", letter), merged)
    word = word.replace("ज्ञ", "ग्य").translate(_MERGED)
    word = word.replace("\u0943", _VIRAMA + "रि").replace("ऋ", "रि").replace("ः", "")
    # English loans: `लैंड` is typed land; `मैं` keeps its ai.
    word = re.sub("\u0948[ंँ](?=.)", "ं", word)
    word = re.sub(f"[ंँ](?=[{_LABIALS}])", "म" + _VIRAMA, word)
    word = re.sub("[ंँ](?=.)", "न" + _VIRAMA, word)
    word = re.sub("\u0947[ंँ]$", "\u0947इन" + _VIRAMA, word)
    word = re.sub("[ंँ]$", "न" + _VIRAMA, word)
    # A suffix of its own: kazakhstan, not kazakhastan.
    word = re.sub(f"({_CONSONANT})(?=स्तान)", r"\1" + _VIRAMA, word)
    return _delete_schwas(word)


def _delete_schwas(word: str) -> str:
    """Mark unspoken inherent vowels with a virama, from the end of the word to its start.

    The final one is unspoken, except after a cluster in r, y or v and in one-letter words; an inner one
    between a spoken vowel and a consonant with a spoken vowel. Narasimhan et al. 2004 state the rule.
    """
    units = re.findall(f"{_CONSONANT}{_VIRAMA}?[{_VOWEL_SIGNS}]?|.", word)
    bare = [re.fullmatch(_CONSONANT, unit) is not None for unit in units]
    last = len(units) - 1
    for index in range(last, 0, -1):
        if not bare[index]:
            continue
        after_cluster = units[index - 1].endswith(_VIRAMA)
        if index == last:
            if after_cluster and units[index][0] in "रयव" and units[index - 1][0] != "स":
                continue
            units[index] += _VIRAMA
        elif not after_cluster and _spoken(units[index + 1]) and units[index + 1][0] != "य":
            units[index] += _VIRAMA
    return "".join(units)


def _spoken(unit: str) -> bool:
    """Whether a unit is a consonant that carries a vowel."""
    return re.match(_CONSONANT, unit) is not None and not unit.endswith(_VIRAMA)


def _is_latin(letter: str) -> bool:
    return "LATIN" in unicodedata.name(letter, "")


@functools.cache
def _uroman() -> Any:
    try:
        import uroman
    except ImportError as error:
        raise InputError(
            "romanisation: the library uroman is missing. Install it: pip install uroman."
        ) from error
    converter = uroman.Uroman()
    if converter.romanize_string("क", lcode="hin").lower() != "ka":
        raise InputError("romanisation: uroman does not convert a probe letter. Reinstall it.")
    return converter
