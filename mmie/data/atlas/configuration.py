"""What Atlas is generated from: `data/atlas/atlas.yaml` and one template file a language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from mmie.data.atlas import names
from mmie.data.atlas.facts import RELATIONS
from mmie.data.romanise import romanise
from mmie.errors import InputError

TEMPLATES = Path(__file__).parent / "templates"
_FIELD = re.compile(r"(\{\w+\})")


@dataclass(frozen=True)
class Template:
    """One way to ask for the object of a relation.

    Attributes:
        name: e.g. `q1`, the same in every language.
        split: `trained` or `held_out`.
        text: prompt with `{subject}`; the answer follows it.
    """

    name: str
    split: str
    text: str


@dataclass(frozen=True)
class Pack:
    """Everything that one language gives to the generator.

    Attributes:
        language, script: codes.
        relations: relation -> its templates.
        forms: kind -> code -> form of the name inside a prompt, where it differs from the name itself.
        in_language: "in this language", in this language; empty for the bridge.
        mixed: instructions in this language; `{question}` is in another one.
        adversarial: family -> prompt around `{question}` (and `{statement}`, an unfinished sentence).
        script_requests: script -> instruction to answer in that script.
        refusals: how to decline politely.
    """

    language: str
    script: str
    relations: Mapping[str, tuple[Template, ...]]
    forms: Mapping[str, Mapping[str, str]]
    in_language: str
    mixed: tuple[str, ...]
    adversarial: Mapping[str, str]
    script_requests: Mapping[str, str]
    refusals: tuple[str, ...]


@dataclass(frozen=True)
class AtlasConfiguration:
    """`atlas.yaml`, checked. What each key means stands in the file."""

    languages: Mapping[str, Mapping[str, str]]
    base_languages: tuple[str, ...]
    bridge: str
    holdout_share: float
    answer_limits: Mapping[str, int]
    adversarial_per_fact: int
    triples_per_language: int
    leave_out: tuple[str, ...] = ()
    without_city: tuple[str, ...] = ()
    packs: Mapping[str, Pack] = field(default_factory=dict)

    def source_of(self, language: str) -> str:
        """The language whose names and templates `language` is derived from, or itself."""
        return self.languages[language].get("romanised_from", language)


def load_configuration(path: str | Path) -> AtlasConfiguration:
    """Read `atlas.yaml` and the template file of every language in it.

    Errors:
        InputError that names the file and key: unknown or missing keys, a language without a template
        file, a relation without templates, a template without its field.
    """
    content = _read(Path(path))
    known = {entry.name for entry in fields(AtlasConfiguration)} - {"packs"}
    if unknown := sorted(set(content) - known):
        raise InputError(f"{path}: unknown key {unknown[0]!r}. Known keys: {', '.join(sorted(known))}.")
    if missing := sorted(known - {"leave_out", "without_city"} - set(content)):
        raise InputError(f"{path}: {missing[0]} is missing. Add it.")
    if missing := sorted(set(RELATIONS) - set(content["answer_limits"])):
        raise InputError(f"{path}: answer_limits.{missing[0]} is missing. Add it.")
    languages = {language: dict(options or {}) for language, options in content["languages"].items()}
    for language in (content["bridge"], *content["base_languages"]):
        if language not in languages:
            raise InputError(f"{path}: languages has no {language!r}. Add it, or take it out elsewhere.")
    packs: dict[str, Pack] = {}
    for language, options in sorted(languages.items(), key=lambda item: "romanised_from" in item[1]):
        source = options.get("romanised_from")
        if source is not None and source not in packs:
            raise InputError(f"{path}: languages.{language}.romanised_from: {source!r} is no base language.")
        packs[language] = _romanised(packs[source], language) if source else load_pack(language)
    return AtlasConfiguration(
        languages=languages,
        base_languages=tuple(content["base_languages"]),
        bridge=content["bridge"],
        holdout_share=float(content["holdout_share"]),
        answer_limits=dict(content["answer_limits"]),
        adversarial_per_fact=int(content["adversarial_per_fact"]),
        triples_per_language=int(content["triples_per_language"]),
        leave_out=tuple(content.get("leave_out", ())),
        without_city=tuple(content.get("without_city", ())),
        packs={language: packs[language] for language in languages},
    )


def load_pack(language: str, directory: Path = TEMPLATES) -> Pack:
    """Read and check the template file of one language."""
    path = directory / f"{language}.yaml"
    content = _read(path)
    if content.get("script") not in names.known_scripts():
        raise InputError(f"{path}: script {content.get('script')!r} is unknown. Give an ISO 15924 code.")
    relations = {}
    for relation in RELATIONS:
        found = content.get("relations", {}).get(relation) or {}
        relations[relation] = tuple(
            Template(name, split, text) for name, options in found.items() for split, text in options.items()
        )
        for template in relations[relation]:
            if template.split not in ("trained", "held_out") or "{subject}" not in template.text:
                raise InputError(
                    f"{path}: relations.{relation}.{template.name}: write `trained:` or `held_out:` "
                    "and a text with {subject}."
                )
        if not any(entry.name[0] == "s" and entry.split == "trained" for entry in relations[relation]):
            raise InputError(f"{path}: relations.{relation} has no trained statement (s1, s2). Add one.")
        if len(relations[relation]) < 4:
            raise InputError(f"{path}: relations.{relation} has fewer than four templates. Add some.")
    return Pack(
        language=language,
        script=content["script"],
        relations=relations,
        forms=content.get("forms", {}),
        in_language=content.get("in_language", ""),
        mixed=tuple(content.get("mixed", ())),
        adversarial=content.get("adversarial", {}),
        script_requests=content.get("script_requests", {}),
        refusals=tuple(content.get("refusals", ())),
    )


def _romanised(pack: Pack, language: str) -> Pack:
    """The same language in Latin letters: everything but the `{fields}` is respelled."""

    def spell(text: str) -> str:
        parts = _FIELD.split(text)
        return "".join(
            part if _FIELD.fullmatch(part) or not _has_letters(part) else romanise(part, pack.language)
            for part in parts
        )

    return Pack(
        language=language,
        script="Latn",
        relations={
            relation: tuple(Template(entry.name, entry.split, spell(entry.text)) for entry in templates)
            for relation, templates in pack.relations.items()
        },
        forms={
            kind: {code: spell(text) for code, text in forms.items()} for kind, forms in pack.forms.items()
        },
        in_language=spell(pack.in_language),
        mixed=tuple(map(spell, pack.mixed)),
        adversarial={family: spell(text) for family, text in pack.adversarial.items()},
        script_requests={script: spell(text) for script, text in pack.script_requests.items()},
        refusals=tuple(map(spell, pack.refusals)),
    )


def _has_letters(text: str) -> bool:
    return any(sign.isalpha() for sign in text)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Every language of the Atlas needs its file.") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}. Correct it.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: it must hold keys and values. See data/atlas/atlas.yaml.")
    return content
