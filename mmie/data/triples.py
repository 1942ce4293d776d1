"""Contrastive triples: a benign prompt, the same meaning on another surface, and an attack.

One JSON object a line. Canonical field names only, unless the file is declared `legacy`: then older names
are read as well, and a canonical field next to an older one with another text is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmie.data.jsonl import read_objects
from mmie.data.problems import Problem, raise_problems
from mmie.data.splits import position
from mmie.errors import InputError

REQUIRED = (
    "triple_id", "template_id", "forget_id", "family", "lang_a", "lang_p", "lang_x", "script_a", "script_p",
    "script_x", "system", "anchor", "counterfactual", "adversarial", "anchor_response",
    "adversarial_response", "cf_kind",
)  # fmt: skip
OPTIONAL = ("cf_response", "context")
LEGACY: dict[str, tuple[str, ...]] = {
    "triple_id": ("id",),
    "family": ("attack_type",),
    "system": ("system_instruction", "system_prompt", "instruction"),
    "anchor": ("benign_input", "user_input_benign_1", "user_input_1", "benign_1"),
    "counterfactual": ("benign_cf_input", "user_input_benign_2", "user_input_2", "benign_2"),
    "adversarial": ("injection_input", "user_input_injection", "adversarial_input", "attack_input"),
    "anchor_response": ("benign_output", "expected_output_1", "expected_output", "reference_output"),
    "adversarial_response": ("injection_output", "expected_output_injection"),
}
CF_KINDS = ("paraphrase", "translation", "script", "different_task")


@dataclass(frozen=True)
class Triple:
    """One triple; `split` and `cell` are empty until the split rule writes them.

    Attributes:
        anchor, counterfactual, adversarial: the three user prompts, without context.
        context: a passage that the benign question needs; see `anchor_prompt`.
        cf_response: answer to the counterfactual; None when its language differs and none was given.
        cf_kind: how the counterfactual keeps the meaning, out of CF_KINDS.
    """

    triple_id: str
    template_id: str
    forget_id: str
    family: str
    lang_a: str
    lang_p: str
    lang_x: str
    script_a: str
    script_p: str
    script_x: str
    system: str
    anchor: str
    counterfactual: str
    adversarial: str
    anchor_response: str
    adversarial_response: str
    cf_kind: str
    cf_response: str | None
    context: str
    file: str
    line: int
    split: str = ""
    cell: str = ""

    @property
    def anchor_prompt(self) -> str:
        """The benign prompt as the model reads it, the context before it."""
        return f"{self.context}\n{self.anchor}" if self.context else self.anchor

    @property
    def counterfactual_prompt(self) -> str:
        """The counterfactual prompt as the model reads it, the context before it."""
        return f"{self.context}\n{self.counterfactual}" if self.context else self.counterfactual

    def problem(self, reason: str, detail: str) -> Problem:
        return Problem(self.file, self.line, reason, detail)


@dataclass(frozen=True)
class Triples:
    """Accepted triples and the count of what was left out, by reason."""

    triples: list[Triple]
    dropped: dict[str, int]
    ignored: dict[str, int]


def read_triples(
    path: str | Path,
    *,
    schema: str = "triples",
    encoding: str = "utf-8",
    ignored_fields: Sequence[str] = (),
    max_drop_share: float = 0.0,
    max_samples: int | None = None,
    seed: int = 0,
) -> Triples:
    """Read a file of triples.

    Args:
        path: JSONL file.
        schema: `triples`, or `legacy` to accept the older names in LEGACY.
        encoding: Python codec name, decoded strictly.
        ignored_fields: fields that may be there and nobody reads.
        max_drop_share: share of rows with an empty or missing text that may be left out and counted; with
            0 any such row is an error.
        max_samples: accepted triples to draw by seed; None for all.
        seed: of the draw.

    Raises:
        InputError: malformed lines, unknown or contradicting fields, too many unusable rows, or no row.
    """
    if schema not in ("triples", "legacy"):
        raise InputError(f"{path}: schema {schema!r} is neither 'triples' nor 'legacy'.")
    objects = read_objects(path, encoding=encoding)
    ignored = {name: sum(name in row for _, row in objects.objects) for name in ignored_fields}
    problems, unusable, triples = list(objects.problems), [], []
    for line, content in objects.objects:
        row = {name: value for name, value in content.items() if name not in ignored}
        found = _triple(objects.file, line, row, legacy=schema == "legacy")
        if isinstance(found, Triple):
            triples.append(found)
        elif found.reason in ("missing_field", "empty_field"):
            unusable.append(found)
        else:
            problems.append(found)
    raise_problems(problems)
    if len(unusable) > max_drop_share * len(objects.objects):
        raise_problems(unusable)
    raise_problems(_repeated_ids(triples))
    if not triples:
        raise InputError(f"{path}: no usable triple is left of {len(objects.objects)}. Correct the rows.")
    if max_samples is not None and len(triples) > max_samples:
        drawn = sorted(triples, key=lambda triple: position("triples", seed, triple.triple_id))
        triples = sorted(drawn[:max_samples], key=lambda triple: triple.triple_id)
    dropped = Counter(problem.reason for problem in unusable)
    return Triples(triples, dict(sorted(dropped.items())), ignored)


def unique_counts(triples: Sequence[Triple]) -> dict[str, int]:
    """Rows, and how many different things stand behind them; forget groups are the clusters of intervals."""
    names = ("anchor", "counterfactual", "adversarial", "template_id", "forget_id")
    return {"rows": len(triples)} | {
        name: len({getattr(triple, name) for triple in triples}) for name in names
    }


def _repeated_ids(triples: Sequence[Triple]) -> list[Problem]:
    counts = Counter(triple.triple_id for triple in triples)
    return [
        triple.problem("repeated_id", f"the triple_id {triple.triple_id!r} occurs twice. Make ids unique.")
        for triple in triples
        if counts[triple.triple_id] > 1
    ]


def _triple(file: str, line: int, content: Mapping[str, Any], *, legacy: bool) -> Triple | Problem:
    """A triple, or what keeps this object from being one."""
    older = {alias: name for name, aliases in LEGACY.items() for alias in aliases} if legacy else {}
    known = {*REQUIRED, *OPTIONAL}
    values: dict[str, str] = {}
    # Canonical names first: an older one may fill a gap or repeat the text, never contradict it.
    for name in sorted(content, key=lambda name: name not in known):
        if name == "split":
            return Problem(file, line, "bad_field", "'split' is written by the split rule. Remove it.")
        target = name if name in known else older.get(name)
        if target is None:
            return Problem(file, line, "unknown_field", _unknown(name, known))
        if not isinstance(content[name], str):
            return Problem(file, line, "bad_field", f"{name!r} must be text. Quote it.")
        if values.setdefault(target, content[name]) != content[name]:
            detail = f"{name!r} contradicts {target!r}. Keep one of them."
            return Problem(file, line, "conflict", detail)
    for name in REQUIRED:
        if name not in values:
            return Problem(file, line, "missing_field", f"the field {name!r} is missing. Add it.")
        if name != "system" and not values[name].strip():
            return Problem(file, line, "empty_field", f"the field {name!r} is empty. Fill it in.")
    if values["cf_kind"] not in CF_KINDS:
        detail = f"'cf_kind' is {values['cf_kind']!r}; it must be one of {', '.join(CF_KINDS)}."
        return Problem(file, line, "bad_field", detail)
    if "cf_response" not in values and values["lang_a"] == values["lang_p"]:
        values["cf_response"] = values["anchor_response"]
    return Triple(
        **{name: values[name] for name in REQUIRED},
        cf_response=values.get("cf_response"),
        context=values.get("context", ""),
        file=file,
        line=line,
    )


def _unknown(name: str, known: set[str]) -> str:
    close = get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    older = any(name in aliases for aliases in LEGACY.values())
    remedy = "declare the file `schema: legacy`" if older else "add it to the ignored fields"
    return f"unknown field {name!r}; the nearest known one is {close[0]!r}. Rename it, or {remedy}."
