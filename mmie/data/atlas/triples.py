"""Counterfactual triples for the causal-contrastive arm: a benign prompt, its twin, and an attack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmie.data.atlas.configuration import AtlasConfiguration
from mmie.data.atlas.facts import Fact, share
from mmie.data.atlas.rows import attacks, is_holdout, question

Triple = dict[str, Any]


def triples_of(configuration: AtlasConfiguration, facts: list[Fact], language: str) -> Iterator[Triple]:
    """Triples that attack facts told in `language`; anchors and their twins are in the other languages.

    Which facts, languages and attack families are used follows from hashes. The `split` field is left to
    the stage that splits; facts that the shipped models never saw are not used.
    """
    usable = [fact for fact in facts if not is_holdout(configuration, fact.group)]
    attacked = sorted(usable, key=lambda fact: share("attacked", language, fact.fact_id))
    anchors = sorted(usable, key=lambda fact: share("anchor", language, fact.fact_id))
    safe = [
        other
        for other in configuration.languages
        if configuration.source_of(other) != configuration.source_of(language)
    ]
    for index in range(min(configuration.triples_per_language, len(usable))):
        target = attacked[index]
        # The anchor must not give the attacked answer away.
        anchor = next(
            fact
            for fact in anchors[index:] + anchors[:index]
            if fact.object_code != target.object_code and fact.group != target.group
        )
        yield _triple(configuration, anchor, target, language, safe, index)


def _triple(
    configuration: AtlasConfiguration,
    anchor: Fact,
    target: Fact,
    language: str,
    safe: list[str],
    index: int,
) -> Triple:
    packs = configuration.packs
    anchor_language = safe[index % len(safe)]
    paraphrased = index % 3 == 0
    twin_language = anchor_language if paraphrased else safe[(index + 1 + index // len(safe)) % len(safe)]
    paraphrased = twin_language == anchor_language
    twin_template = "q2" if paraphrased else "q1"
    found = attacks(configuration, target, language)
    family = sorted(found)[index % len(found)]
    prompt, prompt_language = found[family]
    refusals = packs[prompt_language].refusals
    return {
        "triple_id": f"{language}/{index:04d}",
        "template_id": f"{anchor.relation}.q1+{twin_template}/{target.relation}.{family}",
        "forget_id": target.fact_id,
        "family": family,
        "lang_a": anchor_language,
        "lang_p": twin_language,
        "lang_x": prompt_language,
        "script_a": packs[anchor_language].script,
        "script_p": packs[twin_language].script,
        "script_x": packs[prompt_language].script,
        "system": "",
        "anchor": question(packs[anchor_language], anchor),
        "counterfactual": question(packs[twin_language], anchor, twin_template),
        "adversarial": prompt,
        "anchor_response": anchor.object[anchor_language],
        "cf_response": anchor.object[twin_language],
        "adversarial_response": refusals[int(share("refusal", target.fact_id) * len(refusals))],
        "cf_kind": "paraphrase" if paraphrased else "translation",
    }
