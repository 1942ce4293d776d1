"""Facts of Atlas: subject, relation and object as CLDR codes, with their names in every language."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mmie.data.atlas import names

# Relation -> (kind of the subject, kind of the object).
RELATIONS = {
    "currency": ("territory", "currency"),
    "official_language": ("territory", "language"),
    "city": ("city", "territory"),
    "script": ("language", "script"),
}

# The CLDR names them "Simplified" and "Traditional", which is no name of a script.
_CHINESE_STYLES = ("Hans", "Hant")

Names = Mapping[str, str]


@dataclass(frozen=True)
class Fact:
    """One thing that is true in every language.

    Attributes:
        fact_id: e.g. `currency/IN`, the same in every language.
        group: the territory (or the language of a script fact); facts of a group are never split.
        relation: one of `RELATIONS`.
        subject_code, object_code: CLDR codes.
        subject, object: language -> name.
    """

    fact_id: str
    group: str
    relation: str
    subject_code: str
    object_code: str
    subject: Names
    object: Names


def share(*parts: str) -> float:
    """A number in [0, 1) that depends on `parts` alone: how Atlas chooses without drawing."""
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:8], "big") / 2**64


def collect_facts(
    languages: Mapping[str, str],
    limits: Mapping[str, int],
    *,
    derive: Callable[[Names], Names] = lambda found: found,
    leave_out: Iterable[str] = (),
    without_city: Iterable[str] = (),
) -> list[Fact]:
    """Every usable fact, ordered by relation and subject.

    A fact is left out when a name is missing in any language, when two things share a name, when the
    question would contain its answer, or when its answer reads the same in two languages that share a
    script, because then nobody could say in which language it was given.

    Args:
        languages: base language -> script its names must be written in.
        limits: relation -> most facts with the same answer; which ones is chosen by hash.
        derive: adds the names of derived languages (romanised ones) to those of the base languages.
        leave_out: territories that are left out altogether.
        without_city: territories whose cities are left out, and single cities (time zones).
    """
    unwanted = frozenset(leave_out)
    pairs = {relation: _pairs(relation, unwanted, frozenset(without_city)) for relation in RELATIONS}
    codes: dict[str, set[str]] = defaultdict(set)
    for relation, found in pairs.items():
        subject_kind, object_kind = RELATIONS[relation]
        codes[subject_kind].update(subject for subject, _, _ in found)
        codes[object_kind].update(object_code for _, object_code, _ in found)
    tables = {kind: _names(kind, sorted(codes[kind]), languages, derive) for kind in sorted(codes)}

    facts: list[Fact] = []
    for relation, (subject_kind, object_kind) in RELATIONS.items():
        usable = []
        for subject, object_code, group in pairs[relation]:
            asked, answer = tables[subject_kind].get(subject), tables[object_kind].get(object_code)
            if asked and answer and _tells_nothing(asked, answer):
                fact_id = f"{relation}/{subject.replace('/', '.')}"
                usable.append(Fact(fact_id, group, relation, subject, object_code, asked, answer))
        facts += _limit(usable, limits[relation])
    return facts


def _pairs(
    relation: str, unwanted: frozenset[str], without_city: frozenset[str]
) -> list[tuple[str, str, str]]:
    """(subject code, object code, group) of one relation, from the CLDR's supplemental data."""
    found = {
        "currency": _currencies,
        "official_language": _official_languages,
        "city": lambda: _cities(without_city),
        "script": _scripts,
    }[relation]()
    return sorted(pair for pair in found if pair[2] not in unwanted)


def _currencies() -> list[tuple[str, str, str]]:
    from babel.core import get_global

    found = []
    for territory, history in get_global("territory_currencies").items():
        current = [code for code, _, until, tender in history if until is None and tender]
        if len(current) == 1:
            found.append((territory, current[0], territory))
    return found


def _official_languages() -> list[tuple[str, str, str]]:
    from babel.core import get_global

    found = []
    for territory, spoken in get_global("territory_languages").items():
        official = {
            language.split("_")[0]: details["population_percent"]
            for language, details in sorted(spoken.items())
            if details["official_status"] in ("official", "de_facto_official")
        }
        if official:
            # Ties go to the first code, so that the choice does not depend on the table's order.
            main = min(official, key=lambda language: (-official[language], language))
            found.append((territory, main, territory))
    return found


def _cities(without_city: frozenset[str]) -> list[tuple[str, str, str]]:
    from babel.core import get_global

    zones = get_global("zone_territories").items()
    return [
        (zone, territory, territory)
        for zone, territory in zones
        if len(territory) == 2 and not {territory, zone} & without_city and not zone.startswith("Etc/")
    ]


def _scripts() -> list[tuple[str, str, str]]:
    from babel.core import get_global

    recognised = {
        language
        for spoken in get_global("territory_languages").values()
        for language, details in spoken.items()
        if details["official_status"]
    }
    several = {language.split("_")[0] for language in recognised if "_" in language}
    found = []
    for language in recognised - several:
        parts = get_global("likely_subtags").get(language, "").split("_")
        if len(parts) == 3 and parts[1] not in _CHINESE_STYLES:
            found.append((language, parts[1], f"language-{language}"))
    return found


def _names(
    kind: str, codes: list[str], languages: Mapping[str, str], derive: Callable[[Names], Names]
) -> dict[str, Names]:
    """Code -> names, for the codes that have an own name in every language."""
    table: dict[str, Names] = {}
    for code in codes:
        found = {
            language: text
            for language, script in languages.items()
            if (text := names.name(kind, code, language, script)) is not None
        }
        if len(found) == len(languages):
            table[code] = derive(found)
    counts = Counter(
        (language, text.casefold()) for found in table.values() for language, text in found.items()
    )
    return {
        code: found
        for code, found in table.items()
        if all(counts[language, text.casefold()] == 1 for language, text in found.items())
    }


def _tells_nothing(asked: Names, answer: Names) -> bool:
    """Whether question and answer are apart, and the answer is another word in every language."""
    spelled = [text.casefold() for text in answer.values()]
    inside = any(answer[language].casefold() in asked[language].casefold() for language in answer)
    return not inside and len(set(spelled)) == len(spelled)


def _limit(facts: list[Fact], most: int) -> list[Fact]:
    """At most `most` facts an answer, the ones with the smallest hash, in the given order."""
    kept: set[str] = set()
    by_answer: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        by_answer[fact.object_code].append(fact)
    for rivals in by_answer.values():
        rivals.sort(key=lambda fact: share("limit", fact.fact_id))
        kept.update(fact.fact_id for fact in rivals[:most])
    return [fact for fact in facts if fact.fact_id in kept]
