"""Urdu, Punjabi and Bengali in Latin letters the way people type them, and how their spelling varies.

Only the training and the measurement of the Latin-script classifier use this; scores use
`mmie.data.romanise`. Letter-by-letter romanisation of Urdu has no short vowels (`msnf`), of Punjabi and
Bengali has every long one doubled (`siraleekhaam`). A classifier trained on that would know a spelling
that nobody types.
"""

from __future__ import annotations

import functools
import random
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from mmie.data.romanise import romanise

_NUKTA_PAIRS = {"ਖ਼": "ख़", "ਗ਼": "ग़", "ਜ਼": "ज़", "ੜ": "ड़", "ਫ਼": "फ़", "ਲ਼": "ल", "ਸ਼": "श"}
_GURMUKHI_SIGNS = {"\u0a70": "\u0902", "\u0a72": "\u0907", "\u0a73": "\u0909", "\u0a75": "\u094dय"}
_ADDAK = re.compile("\u0a71+(.)")
_FINAL_DOUBLE = re.compile(r"([^aeiou\W])\1\b")

_BENGALI = {
    "ক": "k", "খ": "kh", "গ": "g", "ঘ": "gh", "ঙ": "ng", "চ": "ch", "ছ": "chh", "জ": "j", "ঝ": "jh", "ঞ": "n",
    "ট": "t", "ঠ": "th", "ড": "d", "ঢ": "dh", "ণ": "n", "ত": "t", "থ": "th", "দ": "d", "ধ": "dh", "ন": "n",
    "প": "p", "ফ": "f", "ব": "b", "ভ": "bh", "ম": "m", "য": "j", "র": "r", "ল": "l", "শ": "sh", "ষ": "sh",
    "স": "s", "হ": "h", "ৎ": "t", "ৰ": "r", "\u09f1": "y",
}  # fmt: skip
_BENGALI_VOWELS = {
    "অ": "o", "আ": "a", "ই": "i", "ঈ": "i", "উ": "u", "ঊ": "u", "ঋ": "ri", "এ": "e", "ঐ": "oi", "ও": "o",
    "ঔ": "ou",
}  # fmt: skip
_BENGALI_SIGNS = {
    "া": "a", "ি": "i", "ী": "i", "ু": "u", "ূ": "u", "ৃ": "ri", "ে": "e", "ৈ": "oi", "ো": "o", "ৌ": "ou",
    "ং": "ng",
}  # fmt: skip
_BENGALI_VOWEL_SIGNS = frozenset("ািীুূৃেৈোৌ")
# Three letters that Unicode composes, then clusters with a sound of their own.
_BENGALI_MERGED = (
    ("ড়", "র"), ("ঢ়", "র"), ("ওয়া", "ওআ"), ("য়", "\u09f1"), ("ক্ষ", "ক্খ"), ("জ্ঞ", "গ্গ"), ("ত্ত্ব", "ত্ত"),
)  # fmt: skip
_INHERENT = "~"
_WEAK_INHERENT = re.compile("([aeiou~])([bcdfgjklmnprst]h?)~(?=[bcdfghjklmnprsty]+[aeiou])")
_HASANTA = "্"

_URDU = {
    "ب": "b", "پ": "p", "ت": "t", "ٹ": "t", "ث": "s", "ج": "j", "چ": "ch", "ح": "h", "خ": "kh", "د": "d",
    "ڈ": "d", "ذ": "z", "ر": "r", "ڑ": "r", "ز": "z", "ژ": "zh", "س": "s", "ش": "sh", "ص": "s", "ض": "z",
    "ط": "t", "ظ": "z", "غ": "gh", "ف": "f", "ق": "q", "ک": "k", "ك": "k", "گ": "g", "ل": "l", "م": "m",
    "ن": "n", "ہ": "h", "ھ": "h", "ه": "h", "ۃ": "t", "ة": "t",
}  # fmt: skip
# What one long letter of Urdu may be in Latin spelling; the first is what it is by default.
_URDU_LONG = {
    "ا": ("a", "aa", "i", "u"), "آ": ("aa", "a"), "أ": ("a",), "و": ("o", "u", "w", "v", "au", "oo"),
    "ی": ("i", "e", "y", "ai", "ee", "iy"), "ي": ("i", "y"), "ے": ("e", "ay", "ai"), "ئ": ("", "i", "y"),
    "ؤ": ("o", "u"), "ع": ("a", "", "e", "i", "u"), "ں": ("n", ""), "ء": ("", "a"), "ۂ": ("h",), "ۓ": ("e",),
}  # fmt: skip
_SHORT = "[aiu]?"


def spell_punjabi(text: str) -> str:
    """Gurmukhi text as typed: written in Devanagari letter by letter, then spelled like Hindi."""
    text = unicodedata.normalize("NFC", text)
    for gurmukhi, devanagari in _NUKTA_PAIRS.items():
        text = text.replace(unicodedata.normalize("NFC", gurmukhi), devanagari)
    text = _ADDAK.sub(lambda match: f"{match[1]}\u094d{match[1]}", text)
    shifted = "".join(
        _GURMUKHI_SIGNS.get(letter, chr(ord(letter) - 0x100) if "\u0a00" <= letter <= "\u0a75" else letter)
        for letter in text
    )
    return _FINAL_DOUBLE.sub(r"\1", _spelled(shifted).replace("chch", "ch"))


def spell_hindi(text: str) -> str:
    """Devanagari text as typed, by `mmie.data.romanise`."""
    return _spelled(text)


def spell_bengali(text: str) -> str:
    """Bengali text as typed: the inherent vowel is o, unspoken at the end of a word and in weak places."""
    return re.sub("[\u0980-\u09fe\u200c\u200d]+", lambda match: _bengali_word(match.group()), text)


@functools.lru_cache(maxsize=1 << 16)
def _bengali_word(word: str) -> str:
    word = unicodedata.normalize("NFC", word.replace("\u200c", "").replace("\u200d", ""))
    for letters, replacement in _BENGALI_MERGED:
        word = word.replace(unicodedata.normalize("NFC", letters), replacement)
    spelled = []
    for place, letter in enumerate(word):
        following = word[place + 1 : place + 2]
        after_hasanta = place > 0 and word[place - 1] == _HASANTA
        if letter in _BENGALI:
            jophala = letter == "য" and after_hasanta
            spelled.append("y" if jophala else _BENGALI[letter])
            cluster = after_hasanta and word[place - 2] != "র"
            bare = following not in _BENGALI_VOWEL_SIGNS and following != _HASANTA
            if bare and (following or cluster):
                spelled.append(_INHERENT)
        else:
            spelled.append(_BENGALI_VOWELS.get(letter) or _BENGALI_SIGNS.get(letter, ""))
    weak = _WEAK_INHERENT.sub(r"\1\2", "".join(spelled))
    return weak.replace(_INHERENT, "o")


class UrduSpeller:
    """Urdu as typed: short vowels, which Urdu does not write, come from Hindi words that sound alike.

    A Hindi word fits if it has the Urdu word's consonants in order and spellings of its long vowels;
    the most frequent that fits is taken. Words that Hindi lacks get an `a` after every other consonant
    (`mtlb` -> `matlab`), which is most often right.

    Args:
        hindi: romanised Hindi words with their counts.
    """

    def __init__(self, hindi: Mapping[str, int]) -> None:
        self._by_skeleton: dict[str, list[str]] = defaultdict(list)
        for word, _ in sorted(hindi.items(), key=lambda item: (-item[1], item[0])):
            self._by_skeleton[_skeleton(word)].append(word)
        self._known: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text)
        return re.sub("[\u0620-\u065f\u066e-\u06d3]+", lambda match: self._word(match.group()), text)

    def _word(self, word: str) -> str:
        if word not in self._known:
            self._known[word] = self._spell(word)
        return self._known[word]

    def _spell(self, word: str) -> str:
        letters = [letter for letter in word if letter in _URDU or letter in _URDU_LONG]
        default = "".join(_URDU.get(letter) or _URDU_LONG[letter][0] for letter in letters)
        long = [_alternatives(letter) for letter in letters]
        if letters and letters[-1] in "یي":  # a final ya is i: the e has a letter of its own
            long[-1] = "(?:i|ee)"
        pattern = re.compile(_SHORT + _SHORT.join(long))
        for candidate in self._by_skeleton.get(_skeleton(default), []):
            if pattern.fullmatch(candidate):
                return candidate
        return _with_short_vowels(letters)


def _alternatives(letter: str) -> str:
    if letter in _URDU_LONG:
        return f"(?:{'|'.join(_URDU_LONG[letter])})"
    latin = _URDU[letter]
    return {"z": "[zj]", "q": "[qk]", "f": "(?:f|ph)", "ch": "chh?", "kh": "kh", "gh": "gh?"}.get(
        latin, latin
    )


def _skeleton(word: str) -> str:
    for pattern, merged in (("ph", "f"), ("chh", "ch"), ("z", "j"), ("q", "k"), ("gh", "g")):
        word = word.replace(pattern, merged)
    return re.sub("[aeiouwvyn]", "", word)


def _with_short_vowels(letters: Sequence[str]) -> str:
    spelled, needs_vowel = [], False
    for place, letter in enumerate(letters):
        if letter in _URDU_LONG and letter != "ں":
            consonantal = letter in "وی" and place == 0
            spelled.append({"و": "w", "ی": "y"}[letter] if consonantal else _URDU_LONG[letter][0])
            needs_vowel = consonantal
            continue
        aspirate = letter == "ھ"
        if needs_vowel and not aspirate:
            spelled.append("a")
            needs_vowel = False
        else:
            needs_vowel = True
        spelled.append(_URDU.get(letter, "n"))
        if aspirate:
            needs_vowel = True
    return "".join(spelled)


# (pattern, replacement, probability): how typists differ from one spelling and from each other.
_VARIATIONS: tuple[tuple[re.Pattern[str], str, float], ...] = tuple(
    (re.compile(pattern), replacement, probability)
    for pattern, replacement, probability in (
        ("aa", "a", 0.5), ("(?<=[^aeiou])a(?=[^aeiou]+[aeiou]?$)", "aa", 0.12), ("a$", "aa", 0.05),
        ("ee", "i", 0.3), ("(?<=[^aeiou])i(?=[^aeiou])", "ee", 0.1), ("i$", "ee", 0.1), ("oo", "u", 0.3),
        ("(?<=[^aeiou])u(?=[^aeiou])", "oo", 0.08), ("w", "v", 0.3), ("v", "w", 0.3), ("z", "j", 0.3),
        ("j", "z", 0.04), ("ph", "f", 0.5), ("f", "ph", 0.05), ("sh", "s", 0.15), ("chh", "ch", 0.6),
        ("(?<=[bdgjkt])h", "", 0.06), ("(?<=[aeiou])h$", "", 0.2), ("ain$", "en", 0.15), ("ein$", "e", 0.3),
        ("ein$", "en", 0.3), ("hai", "he", 0.06), ("(?<=[aeiou])n$", "", 0.12), ("ai", "e", 0.1),
        ("au", "o", 0.12), ("q", "k", 0.3), ("x", "ksh", 0.3), ("ksh", "x", 0.1), ("y(?=[aeiou])", "", 0.05),
        ("(?<=[aeiou][^aeiou])a(?=[^aeiou][aeiou])", "", 0.08), ("([^aeioush])\\1", r"\1", 0.3),
        ("(?<=[aeiou])([bdgklmnprst])(?=[aeiou])", r"\1\1", 0.02), ("e$", "ay", 0.04), ("ie$", "iye", 0.5),
        ("iy", "i", 0.15), ("^nahin$", "nhi", 0.25), ("^mein$", "me", 0.3), ("^hai$", "h", 0.03),
    )
)  # fmt: skip


def vary(text: str, generator: random.Random, *, strength: float = 1.0) -> str:
    """`text` in Latin letters with the spelling of another typist.

    Vowel length, v and w, z and j, aspirates, inner and final schwas, nasal endings, double letters:
    each place of each word changes with its own probability times `strength`.
    """
    return " ".join(_varied(word, generator, strength) for word in text.split())


def _varied(word: str, generator: random.Random, strength: float) -> str:
    for pattern, replacement, probability in _VARIATIONS:
        if generator.random() < probability * strength:
            word = pattern.sub(replacement, word)
    return word


def _spelled(text: str) -> str:
    return " ".join(_hindi_word(word) for word in text.split())


@functools.lru_cache(maxsize=1 << 17)
def _hindi_word(word: str) -> str:
    native = re.findall("[\u0900-\u0963]+", word)
    return romanise("".join(native), "hi") if native else word


Speller = Callable[[str], str]


def spellers(hindi: Mapping[str, int]) -> dict[str, Speller]:
    """The speller of each language by code; `hindi` as for `UrduSpeller`."""
    return {"hi": spell_hindi, "pa": spell_punjabi, "bn": spell_bengali, "ur": UrduSpeller(hindi)}
