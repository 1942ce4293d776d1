"""Names of territories, languages, scripts, currencies and cities, from the CLDR (package `babel`).

A name counts only when it is really translated: written in the script of its language alone. What the
CLDR falls back to (English, or the code itself) is no name.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import Any

# Besides letters and marks. Names with brackets, digits or ampersands do not read well in a sentence.
_ALLOWED = frozenset(" -'’.")

_SCRIPT_NAMES = {
    "Latn": "LATIN",
    "Deva": "DEVANAGARI",
    "Arab": "ARABIC",
    "Guru": "GURMUKHI",
    "Beng": "BENGALI",
    "Cyrl": "CYRILLIC",
    "Grek": "GREEK",
    "Hebr": "HEBREW",
    "Gujr": "GUJARATI",
    "Taml": "TAMIL",
    "Telu": "TELUGU",
    "Knda": "KANNADA",
    "Mlym": "MALAYALAM",
    "Orya": "ORIYA",
    "Sinh": "SINHALA",
    "Thai": "THAI",
    "Ethi": "ETHIOPIC",
    "Geor": "GEORGIAN",
    "Armn": "ARMENIAN",
}

KINDS = ("territory", "language", "script", "currency", "city")


def name(kind: str, code: str, language: str, script: str) -> str | None:
    """The name of one thing in one language, NFC, or None when the CLDR does not translate it.

    Args:
        kind: one of `KINDS`.
        code: ISO 3166 territory, CLDR language, ISO 15924 script, ISO 4217 currency or time zone.
        language: CLDR language code to name it in.
        script: ISO 15924 script that the name must be written in.
    """
    text = _city(code, language) if kind == "city" else _table(kind, language).get(code)
    if not text:
        return None
    text = unicodedata.normalize("NFC", text).strip()
    return text if written_in(text, script) else None


def written_in(text: str, script: str) -> bool:
    """Whether a name has letters, all of them in `script`, and nothing else but simple punctuation."""
    prefix = _SCRIPT_NAMES[script]
    letters = [sign for sign in text if sign not in _ALLOWED]
    return bool(letters) and all(
        unicodedata.category(sign)[0] in "LM" and prefix in unicodedata.name(sign, "") for sign in letters
    )


def known_scripts() -> frozenset[str]:
    """Scripts that a template file may declare."""
    return frozenset(_SCRIPT_NAMES)


@functools.cache
def _locale(language: str) -> Any:
    from babel import Locale

    return Locale.parse(language)


def _table(kind: str, language: str) -> Any:
    locale = _locale(language)
    return {
        "territory": locale.territories,
        "language": locale.languages,
        "script": locale.scripts,
        "currency": locale.currencies,
    }[kind]


def _city(zone: str, language: str) -> str | None:
    zones = _locale(language).time_zones
    for identifier in (zone, *_old_identifiers().get(zone, ())):
        city = zones.get(identifier, {}).get("city")
        if city:
            return str(city)
    # English gives an exemplar city only where it differs from the identifier.
    return zone.rsplit("/", 1)[-1].replace("_", " ") if language == "en" else None


@functools.cache
def _old_identifiers() -> dict[str, tuple[str, ...]]:
    """Current time zone -> its older identifiers, under which the CLDR may keep the city."""
    from babel.core import get_global

    old: dict[str, tuple[str, ...]] = {}
    for alias, zone in sorted(get_global("zone_aliases").items()):
        old[zone] = (*old.get(zone, ()), alias)
    return old
