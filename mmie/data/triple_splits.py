"""Triples by template and text, crossed with the forget groups that are requested.

Rows that share a template or any prompt belong together, or the same text would train and score: a random
split of template rows leaves almost every test combination in training as well.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

from mmie.data.comparison import comparison_key
from mmie.data.problems import raise_problems
from mmie.data.splits import split_of
from mmie.data.triples import Triple
from mmie.errors import InputError

CELLS = ("fit", "new_template", "new_both")


def split_triples(
    triples: Sequence[Triple],
    requested: Collection[str],
    *,
    seed: int,
    fit_share: float = 0.5,
    dev_share: float = 0.2,
    minimum_rows: int = 1,
) -> tuple[list[Triple], int]:
    """Write `split` (fit, dev, test) and `cell` of every triple.

    Cells: `fit` (FIT templates, requested groups), `new_template` (unseen templates, requested groups),
    `new_both` (unseen templates, groups that were not requested). FIT templates with groups that were not
    requested are dropped.

    Args:
        triples: all triples of an experiment.
        requested: forget groups that the experiment asks to forget.
        seed, fit_share, dev_share: of the split of templates.
        minimum_rows: fewest rows of each attacked language in each cell that it has.

    Returns:
        The kept triples, sorted by id, and the number of dropped ones.

    Raises:
        InputError: templates too entangled to split, FIT or DEV empty, a cell too small.
    """
    components = _components(triples)
    _refuse_entangled(triples, components)
    kept, dropped = [], 0
    for triple, component in zip(triples, components, strict=True):
        split = split_of(component, seed, fit_share, dev_share)
        cell = _cell(split, triple.forget_id in requested)
        if cell is None:
            dropped += 1
        else:
            kept.append(replace(triple, split=split, cell=cell))
    for split in ("fit", "dev"):
        if not any(triple.split == split for triple in kept):
            raise InputError(f"triples: no triple is in split {split!r}. Add templates or change the shares.")
    assert_separate(kept, requested, minimum_rows=minimum_rows)
    return sorted(kept, key=lambda triple: triple.triple_id), dropped


def assert_separate(triples: Sequence[Triple], requested: Collection[str], *, minimum_rows: int = 1) -> None:
    """Check a written split: no template and no prompt in two splits, every cell right, none too small.

    Raises:
        InputError: one line a problem.
    """
    problems = []
    first: dict[str, Triple] = {}
    for triple in triples:
        for key in _keys(triple):
            other = first.setdefault(key, triple)
            if other.split != triple.split:
                detail = (
                    f"shares a template or a prompt with {other.file}:{other.line}, which is in split "
                    f"{other.split!r} and not {triple.split!r}. Split by template and text."
                )
                problems.append(triple.problem("split_leak", detail))
                break
        if triple.cell != _cell(triple.split, triple.forget_id in requested):
            problems.append(triple.problem("wrong_cell", f"its cell cannot be {triple.cell!r}."))
    raise_problems(problems)
    counts = Counter((triple.lang_x, triple.cell) for triple in triples)
    raise_problems(
        [
            f"triples: {number} rows of {language} in cell {cell!r}, at least {minimum_rows} are needed."
            for (language, cell), number in sorted(counts.items())
            if number < minimum_rows
        ]
    )


def _cell(split: str, requested: bool) -> str | None:
    if split == "fit":
        return "fit" if requested else None
    return "new_template" if requested else "new_both"


def _keys(triple: Triple) -> list[str]:
    """What may occur in one split only: the template and the three prompts."""
    prompts = (triple.anchor_prompt, triple.counterfactual_prompt, triple.adversarial)
    return [f"template {triple.template_id}", *(f"text {comparison_key(prompt)}" for prompt in prompts)]


def _components(triples: Sequence[Triple]) -> list[str]:
    """Name of each triple's connected component: its least template, which no added text moves."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for triple in triples:
        first, *others = _keys(triple)
        for other in others:
            one, two = sorted((root(first), root(other)))
            parent[two] = one
    return [root(_keys(triple)[0]) for triple in triples]


def _refuse_entangled(triples: Sequence[Triple], components: Sequence[str]) -> None:
    if not triples:
        raise InputError("triples: there are none to split. Check the filters before this stage.")
    largest, number = Counter(components).most_common(1)[0]
    if number * 2 <= len(triples):
        return
    templates: dict[str, set[str]] = defaultdict(set)
    for triple, component in zip(triples, components, strict=True):
        if component == largest:
            for key in _keys(triple)[1:]:
                templates[key].add(triple.template_id)
    shared = sorted(key.removeprefix("text ") for key, names in templates.items() if len(names) > 1)
    raise InputError(
        f"triples: {number} of {len(triples)} rows hang together by templates and shared texts, too many to "
        f"split. Texts in several templates: {'; '.join(shared[:5]) or '(one template)'}. Vary them."
    )
