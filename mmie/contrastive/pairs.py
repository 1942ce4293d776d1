"""Which triples an arm may be trained on, and with which benign pairs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmie.data.comparison import comparison_key
from mmie.data.triple_gates import check_triples, same_fact
from mmie.data.triple_splits import split_triples
from mmie.data.triples import Triple, read_triples
from mmie.errors import InputError
from mmie.io import seed_from

if TYPE_CHECKING:
    import pandas as pd

SHUFFLED = ("counterfactual", "adversarial")


def fit_triples(files: Sequence[str | Path], requested: Collection[str], *, seed: int = 0) -> list[Triple]:
    """Read triples and keep those of the cell `fit`: FIT templates that attack requested facts.

    Args:
        files: JSONL files.
        requested: FIT facts and groups of the forget languages.
        seed: of the split of templates.

    Raises:
        InputError: see `read_triples` and `split_triples`; no triple in the cell.
    """
    triples = [triple for file in files for triple in read_triples(file).triples]
    kept, _ = split_triples(triples, requested, seed=seed)
    chosen = [triple for triple in kept if triple.cell == "fit"]
    if not chosen:
        raise InputError(f"{files[0]}: no triple attacks a FIT fact by a FIT template. Give more triples.")
    return chosen


def with_benign(triples: Sequence[Triple], retain: pd.DataFrame, benign: str) -> list[Triple]:
    """Give every triple a benign pair that may be trained on, then check all gates.

    A pair of a triples file may be in a language that is only measured, or about a DEV or TEST fact:
    training on it would raise what the evaluation reads.

    Args:
        triples: of the cell `fit`.
        retain: FIT rows of the retain languages: fact_id, language, script, prompt, answer.
        benign: `fit_rows` replaces every pair by two wordings of one FIT fact, drawn by the name of the
            triple; `as_given` keeps the triples whose own pair consists of FIT rows.

    Raises:
        InputError: none is left, or a gate fails.
    """
    if benign == "fit_rows":
        facts: dict[str, list[Any]] = {
            str(fact): rows.to_dict("records") for fact, rows in retain.groupby("fact_id", sort=True)
        }
        paired = [_paired(triple, facts) for triple in triples]
    elif benign == "as_given":
        known = set(retain["prompt"])
        paired = [triple for triple in triples if {triple.anchor, triple.counterfactual} <= known]
        if not paired:
            raise InputError("triples: no benign pair consists of FIT rows. Set `benign: fit_rows`.")
    else:
        raise InputError(f"arm of kind 'contrastive': benign {benign!r}. Use fit_rows or as_given.")
    # The measure of meaning is 1 or 0, so any threshold between them is the same.
    check_triples(paired, similarity=same_fact(retain[["fact_id", "language", "answer"]]), threshold=0.5)
    return paired


def shuffled(triples: Sequence[Triple], what: str | None, seed: int) -> list[Triple]:
    """The control that breaks the pairing: counterfactuals, or attacks, of other triples.

    Every text keeps its own answer. No triple keeps its own partner.

    Raises:
        InputError: an unknown part, or one triple alone.
    """
    if what is None:
        return list(triples)
    if what not in SHUFFLED or len(triples) < 2:
        raise InputError(f"arm of kind 'contrastive': shuffled {what!r} of {len(triples)} triples.")
    order = np.random.default_rng(seed_from("shuffled triples", seed)).permutation(len(triples))
    parts = ("counterfactual", "cf_response", "lang_p", "script_p")
    if what == "adversarial":
        parts = ("adversarial", "adversarial_response", "lang_x", "script_x")
    mixed = list(triples)
    for place, other in zip(order, np.roll(order, 1), strict=True):
        mixed[place] = replace(triples[place], **{name: getattr(triples[other], name) for name in parts})
    return mixed


def _paired(triple: Triple, facts: Mapping[str, list[Any]]) -> Triple:
    attack = f" {comparison_key(triple.adversarial)} "
    for one, two in _pairs(triple.triple_id, facts):
        # An attack that holds the benign answer would be another question.
        if f" {comparison_key(one['answer'])} " in attack:
            continue
        same = one["language"] == two["language"]
        return replace(
            triple, system="", context="", anchor=one["prompt"], counterfactual=two["prompt"],
            anchor_response=one["answer"], cf_response=two["answer"], lang_a=one["language"],
            lang_p=two["language"], script_a=one["script"], script_p=two["script"],
            cf_kind="paraphrase" if same else "translation",
        )  # fmt: skip
    raise InputError(
        f"{triple.file}:{triple.line}: no FIT fact of the retain languages is told in two wordings that fit. "
        "Give more retain rows."
    )


def _pairs(name: str, facts: Mapping[str, list[Any]]) -> Iterator[tuple[Any, Any]]:
    """Pairs of rows of one fact, in an order that depends on the name alone."""
    generator = np.random.default_rng(seed_from("benign", name))
    names = list(facts)
    for place in generator.permutation(len(names)):
        rows = facts[names[place]]
        first, *others = generator.permutation(len(rows))
        for other in others:
            if rows[first]["prompt"] != rows[other]["prompt"]:
                yield rows[first], rows[other]
