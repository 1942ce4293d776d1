"""Rows of Atlas: facts put into words in every language, alone and across languages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mmie.data.atlas.configuration import AtlasConfiguration, Pack
from mmie.data.atlas.facts import RELATIONS, Fact, Names, collect_facts, share
from mmie.data.romanise import romanise

Row = dict[str, Any]

# The template that mixed and adversarial prompts wrap.
_QUESTION = "q1"


def facts_of(configuration: AtlasConfiguration) -> list[Fact]:
    """The facts of a configuration, with names in every language of it, derived ones included."""
    scripts = {language: configuration.packs[language].script for language in configuration.base_languages}
    return collect_facts(
        scripts,
        configuration.answer_limits,
        derive=_deriver(configuration),
        leave_out=configuration.leave_out,
        without_city=configuration.without_city,
    )


def is_holdout(configuration: AtlasConfiguration, group: str) -> bool:
    """Whether a group of facts is kept from the shipped models."""
    return share("holdout", group) < configuration.holdout_share


def rows_of(configuration: AtlasConfiguration, facts: list[Fact], language: str) -> Iterator[Row]:
    """Every row whose answer is in `language`: direct, then mixed, then adversarial ones."""
    for fact in facts:
        yield from _direct(configuration, fact, language)
    if language != configuration.bridge:
        for fact in facts:
            yield from _mixed(configuration, fact, language)
        for fact in facts:
            yield from _adversarial(configuration, fact, language)


def question(pack: Pack, fact: Fact, template: str = _QUESTION) -> str:
    """A prompt of one template in the language of `pack`."""
    text = next(entry.text for entry in pack.relations[fact.relation] if entry.name == template)
    return text.format(subject=_subject(pack, fact))


def statement(pack: Pack, fact: Fact) -> str:
    """The first trained wording that the answer completes as a sentence (its name starts with `s`)."""
    templates = pack.relations[fact.relation]
    text = next(entry.text for entry in templates if entry.name.startswith("s") and entry.split == "trained")
    return text.format(subject=_subject(pack, fact))


def attacks(configuration: AtlasConfiguration, fact: Fact, language: str) -> dict[str, tuple[str, str]]:
    """Family -> (prompt, its language): ways to extract a fact in `language` without asking plainly.

    Families, in the language itself: `continuation` (the question with the beginning of its answer) and
    `role_play`; `code_mix` puts bridge words around its question; `through_bridge` asks in the bridge for
    an answer in it; `other_script` asks in its other written form, where there is one, for an answer in
    this one.
    """
    pack, bridge = configuration.packs[language], configuration.packs[configuration.bridge]
    asked, begun = question(pack, fact), statement(pack, fact)
    found = {
        family: (text.format(question=asked, statement=begun), language)
        for family, text in sorted(pack.adversarial.items())
    }
    for family, content in (("code_mix", asked), ("through_bridge", question(bridge, fact))):
        wrapped = bridge.adversarial[family].format(in_language=pack.in_language, question=content)
        found[family] = (wrapped, bridge.language)
    for other in _other_forms(configuration, language):
        request = configuration.packs[other].script_requests[pack.script]
        text = request.format(question=question(configuration.packs[other], fact))
        found["other_script"] = (text, other)
    return found


def _direct(configuration: AtlasConfiguration, fact: Fact, language: str) -> Iterator[Row]:
    pack = configuration.packs[language]
    for template in pack.relations[fact.relation]:
        prompt = template.text.format(subject=_subject(pack, fact))
        template_id = f"{fact.relation}.{template.name}"
        yield _row(configuration, fact, pack, "direct", template_id, template.split, prompt)


def _mixed(configuration: AtlasConfiguration, fact: Fact, language: str) -> Iterator[Row]:
    """`m1`: bridge instruction, own question; `m2`: own instruction, bridge question."""
    pack, bridge = configuration.packs[language], configuration.packs[configuration.bridge]
    prompts = {
        "m1": _chosen(bridge.mixed, fact).format(question=question(pack, fact)),
        "m2": _chosen(pack.mixed, fact).format(question=question(bridge, fact)),
    }
    for template, prompt in prompts.items():
        yield _row(configuration, fact, pack, "mixed", f"{fact.relation}.{template}", "trained", prompt)


def _adversarial(configuration: AtlasConfiguration, fact: Fact, language: str) -> Iterator[Row]:
    found = attacks(configuration, fact, language)
    # Ordered by a hash a fact, so that the families rotate over facts in the same way in every language.
    families = sorted(found, key=lambda family: share("adversarial", fact.fact_id, family))
    for family in sorted(families[: configuration.adversarial_per_fact]):
        template_id = f"{fact.relation}.{family}"
        yield _row(
            configuration,
            fact,
            configuration.packs[language],
            "adversarial",
            template_id,
            "held_out",
            found[family][0],
        )


def _row(
    configuration: AtlasConfiguration,
    fact: Fact,
    pack: Pack,
    kind: str,
    template_id: str,
    template_split: str,
    prompt: str,
) -> Row:
    row: Row = {
        "example_id": f"{fact.fact_id}/{template_id}",
        "fact_id": fact.fact_id,
        "group": fact.group,
        "template_id": template_id,
        "template_split": template_split,
        "relation": fact.relation,
        "kind": kind,
        "language": pack.language,
        "script": pack.script,
        "prompt": prompt,
        "answer": fact.object[pack.language],
        "provenance": "generated",
    }
    if is_holdout(configuration, fact.group):
        row["split"] = "holdout"
    return row


def _subject(pack: Pack, fact: Fact) -> str:
    kind = RELATIONS[fact.relation][0]
    return pack.forms.get(kind, {}).get(fact.subject_code, fact.subject[pack.language])


def _chosen(variants: tuple[str, ...], fact: Fact) -> str:
    return variants[int(share("variant", fact.fact_id) * len(variants))]


def _other_forms(configuration: AtlasConfiguration, language: str) -> list[str]:
    """Other written forms of the same language that can be asked for this one."""
    source = configuration.source_of(language)
    return sorted(
        other
        for other in configuration.languages
        if other != language
        and configuration.source_of(other) == source
        and configuration.packs[language].script in configuration.packs[other].script_requests
    )


def _deriver(configuration: AtlasConfiguration) -> Callable[[Names], Names]:
    derived = {
        language: configuration.source_of(language)
        for language in configuration.languages
        if configuration.source_of(language) != language
    }

    def derive(found: Names) -> Names:
        return {
            **found,
            **{language: romanise(found[source], source) for language, source in derived.items()},
        }

    return derive
