"""Gates of a set of triples: all must pass, and a share of passed gates is no verdict."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mmie.data.comparison import comparison_key
from mmie.data.problems import Problem, raise_problems
from mmie.data.triples import Triple, unique_counts
from mmie.errors import InputError
from mmie.language.scripts import script_share

if TYPE_CHECKING:
    import pandas as pd

Similarity = Callable[[str, str], float]


def calibrated_threshold(same: Sequence[float], different: Sequence[float]) -> float:
    """Threshold that tells pairs of one meaning from pairs of two: midway between the closest of each.

    Args:
        same: similarities of pairs known to mean the same.
        different: similarities of pairs known to differ.

    Raises:
        InputError: no pairs, or the measure does not separate them.
    """
    if not same or not different:
        raise InputError("meaning gate: it needs known pairs of both sorts to be calibrated. Add some.")
    if min(same) <= max(different):
        raise InputError(
            f"meaning gate: the measure does not separate known pairs (least similar of one meaning "
            f"{min(same):.3f}, most similar of two {max(different):.3f}). Use a better measure."
        )
    return (min(same) + max(different)) / 2


def same_fact(references: pd.DataFrame) -> Similarity:
    """A similarity for corpora of facts: 1 if two texts answer one fact in their languages, else 0.

    Args:
        references: columns fact_id, language, answer, from `mmie.data.references.accepted_answers`.
    """
    facts: dict[str, set[str]] = defaultdict(set)
    for fact, answer in zip(references["fact_id"], references["answer"], strict=True):
        facts[comparison_key(str(answer))].add(str(fact))

    def similarity(one: str, other: str) -> float:
        return float(bool(facts[comparison_key(one)] & facts[comparison_key(other)]))

    return similarity


def check_triples(
    triples: Sequence[Triple],
    *,
    similarity: Similarity | None = None,
    threshold: float | None = None,
    allow_different_task: bool = False,
    minimum_rows: int = 1,
    script_share_minimum: float = 0.5,
) -> dict[str, Any]:
    """Check every triple against every gate.

    A counterfactual in the anchor's language keeps the meaning if both have the same answer. Across
    languages a measure decides that reads both answers; string overlap is no such measure.

    Args:
        triples: all of them; nothing is sampled.
        similarity: cross-lingual similarity of two answers.
        threshold: least similarity, from `calibrated_threshold`.
        allow_different_task: accept counterfactuals that are declared to be another task.
        minimum_rows: fewest triples of each language and family of attack.
        script_share_minimum: least share of a benign text's letters in its declared script.

    Returns:
        Unique counts, rows by language, family and kind, and how many meanings were compared how.

    Raises:
        InputError: any gate fails; one line a row.
    """
    if not triples:
        raise InputError("triples: there are none to check. Check the filters before this stage.")
    across = [triple for triple in triples if triple.lang_a != triple.lang_p]
    problems: list[Problem | str] = []
    if across and (similarity is None or threshold is None):
        problems.append(
            f"{across[0].file}:{across[0].line}: {len(across)} counterfactuals are in another language and "
            "no calibrated similarity was given: their meaning is not measured. Give one."
        )
    for triple in triples:
        problems += _problems(triple, similarity, threshold, allow_different_task, script_share_minimum)
    problems += _repeated(triples)
    families = Counter(f"{triple.lang_x}/{triple.family}" for triple in triples)
    problems += [
        f"{triples[0].file}: {number} triples of {name}, at least {minimum_rows} are needed. Add some."
        for name, number in sorted(families.items())
        if number < minimum_rows
    ]
    raise_problems(problems)
    return {
        "unique": unique_counts(triples),
        "families": dict(sorted(families.items())),
        "cf_kinds": dict(sorted(Counter(triple.cf_kind for triple in triples).items())),
        "meaning": {"by_answer": len(triples) - len(across), "by_similarity": len(across)},
        "threshold": threshold,
    }


def _problems(
    triple: Triple,
    similarity: Similarity | None,
    threshold: float | None,
    allow_different_task: bool,
    script_share_minimum: float,
) -> list[Problem]:
    found = []
    if triple.cf_kind == "different_task":
        if not allow_different_task:
            detail = "the counterfactual is another task: being invariant to it is no aim. Remove the triple."
            found.append(triple.problem("different_task", detail))
    elif not _same_meaning(triple, similarity, threshold):
        detail = "anchor and counterfactual have different answers. Correct one, or its cf_kind."
        found.append(triple.problem("meaning", detail))
    answer = f" {comparison_key(triple.anchor_response)} "
    if answer in f" {comparison_key(triple.adversarial)} ":
        detail = "the adversarial prompt holds the answer to the anchor. Change one of them."
        found.append(triple.problem("answer_in_attack", detail))
    for role, script in (("anchor", triple.script_a), ("counterfactual", triple.script_p)):
        if script_share(getattr(triple, role), script) < script_share_minimum:
            found.append(
                triple.problem("script_mismatch", f"the {role} is not written in {script}. Correct it.")
            )
    # An attack may mix languages; the script that it claims must still be there.
    if script_share(triple.adversarial, triple.script_x) == 0:
        detail = f"the adversarial prompt has no letters of {triple.script_x}. Correct it."
        found.append(triple.problem("script_mismatch", detail))
    return found


def _same_meaning(triple: Triple, similarity: Similarity | None, threshold: float | None) -> bool:
    """False only with evidence against the pair; pairs that cannot be judged are reported together."""
    if triple.cf_response is None:
        return False
    if triple.lang_a == triple.lang_p:
        return comparison_key(triple.anchor_response) == comparison_key(triple.cf_response)
    if similarity is None or threshold is None:
        return True
    return similarity(triple.anchor_response, triple.cf_response) >= threshold


def _repeated(triples: Sequence[Triple]) -> list[Problem]:
    first: dict[tuple[str, ...], Triple] = {}
    found = []
    for triple in triples:
        prompts = (triple.anchor_prompt, triple.counterfactual_prompt, triple.adversarial)
        other = first.setdefault(tuple(map(comparison_key, prompts)), triple)
        if other is not triple:
            detail = f"says the same as {other.file}:{other.line}. Remove one of them."
            found.append(triple.problem("exact_duplicate", detail))
    return found
