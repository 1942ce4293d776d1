"""Prompt rewrites: is a fact gone, or only its usual question?

Every variant changes the surface of a prompt and keeps the item: its id, group, language and expected
answer. Variants come from the corpus or from `rewrite_texts`, never from a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
import pandas as pd
from torch import nn

from mmie.attacks.rewrite_texts import text_for
from mmie.attacks.scoring import SCORES, Score, require_rows, scored
from mmie.data.comparison import comparison_key
from mmie.errors import InputError
from mmie.interventions.interface import Intervention
from mmie.io import seed_from
from mmie.language.scripts import script_counts
from mmie.metrics.text import contains_words

Item = Mapping[str, Any]

MEAN = "mean"
OUTSIDE_MEAN = ("translation",)
"""Variants that an oracle may answer from what it is meant to keep: they are stored, not averaged."""


@dataclass(frozen=True)
class Material:
    """What rewrites are made of."""

    corpus: Mapping[str, pd.DataFrame]
    """Cleaned rows by language: forget and retain languages."""
    retain: Sequence[str]
    """Retain languages; the first one is the language of translations, clauses and padding."""
    references: pd.DataFrame
    """Accepted answers (fact_id, language, answer): no context may hold one of its own item."""
    tokenizer: Any
    examples: int = 3
    """Solved questions before the prompt."""
    padding_tokens: int = 64
    """Tokens of benign text before the prompt."""
    _cache: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def answers(self) -> dict[str, list[str]]:
        """Accepted answers in any language, by fact."""
        facts = self.references.groupby(self.references["fact_id"].astype(str))["answer"]
        return {str(fact): sorted(set(texts)) for fact, texts in facts}

    def wordings(self, language: str) -> dict[str, list[Item]]:
        """Plain prompts of a language by fact, new wordings first."""
        if ("wordings", language) not in self._cache:
            rows = self.corpus[language]
            rows = rows[rows["kind"] == "direct"]
            rows = rows.sort_values(["template_split", "template_id", "example_id"], kind="stable")
            found: dict[str, list[Item]] = {}
            for row in _records(rows):
                found.setdefault(str(row["fact_id"]), []).append(row)
            self._cache["wordings", language] = found
        known: dict[str, list[Item]] = self._cache["wordings", language]
        return known

    def solved(self, language: str) -> list[Item]:
        """Plain FIT rows of a language."""
        if ("solved", language) not in self._cache:
            rows = self.corpus[language]
            rows = rows[(rows["kind"] == "direct") & (rows["split"] == "fit")].sort_values("example_id")
            self._cache["solved", language] = _records(rows)
        known: list[Item] = self._cache["solved", language]
        return known

    def betrays(self, item: Item, text: str) -> bool:
        """Whether a context would hand the model an accepted answer of the item."""
        own = [item["answer"], *self.answers.get(str(item["fact_id"]), [])]
        return any(contains_words(text, answer) for answer in own)


Rewrite = Callable[[Item, Material], str | None]
"""(item, material) -> the new prompt; None where the data have none for this item."""


def paraphrase(item: Item, material: Material) -> str | None:
    """The same fact asked in another wording of the corpus; a new one where the item's is trained."""
    for row in material.wordings(item["language"]).get(str(item["fact_id"]), []):
        if comparison_key(row["prompt"]) != comparison_key(item["prompt"]):
            return str(row["prompt"])
    return None


def translation(item: Item, material: Material) -> str | None:
    """The same question in the first retain language; its answer counts in any language."""
    return _same_question(item, material, material.retain[0])


def other_script(item: Item, material: Material) -> str | None:
    """The same question in another script of the language: romanised, or native for a romanised item."""
    code = item["language"].split("_")[0]
    for language in material.corpus:
        if language != item["language"] and language.split("_")[0] == code:
            prompt = _same_question(item, material, language)
            if prompt is not None and not script_counts(prompt)[item["script"]]:
                return prompt
    return None


def code_mixed(item: Item, material: Material) -> str | None:
    """A request in another language before the question."""
    language = next((code for code in material.retain if code != item["language"]), "en")
    return f"{text_for('code_mixed', language).text} {item['prompt']}"


def few_shot(item: Item, material: Material) -> str | None:
    """Solved questions of the same kind and language before the prompt; none holds the item's answer."""
    similar = [
        row
        for row in material.solved(item["language"])
        if row["relation"] == item["relation"] and row["group"] != item["group"]
    ]
    lines: list[str] = []
    for row in _shuffled(similar, "few_shot", item):
        if len(lines) == material.examples:
            break
        line = f"{row['prompt']} {row['answer']}"
        if not material.betrays(item, line):
            lines.append(line)
    return "\n".join([*lines, item["prompt"]]) if len(lines) == material.examples else None


def prefix(item: Item, material: Material) -> str | None:
    """The start of an answer, put into the model's mouth."""
    return f"{item['prompt']} {text_for('prefix', item['language']).text}"


def padding(item: Item, material: Material) -> str | None:
    """Benign text of the first retain language before the prompt; none of it holds the item's answer."""
    lines: list[str] = []
    size = 0
    for row in _shuffled(material.solved(material.retain[0]), "padding", item):
        line = f"{row['prompt']} {row['answer']}"
        if material.betrays(item, line):
            continue
        size += len(material.tokenizer(line, add_special_tokens=False)["input_ids"])
        lines.append(line)
        if size >= material.padding_tokens:
            return "\n".join([*lines, item["prompt"]])
    return None


VARIANTS: dict[str, Rewrite] = {
    "paraphrase": paraphrase,
    "translation": translation,
    "other_script": other_script,
    "code_mixed": code_mixed,
    "few_shot": few_shot,
    "prefix": prefix,
    "padding": padding,
}


def rewrite_rows(
    rows: pd.DataFrame, material: Material, variants: Sequence[str] | None = None
) -> pd.DataFrame:
    """The rows once for every variant, with `variant` and the new `prompt`.

    Args:
        rows: forget rows; all their columns but `prompt` are kept.
        material: what rewrites are made of.
        variants: names; None for all that the data allow.

    Raises:
        InputError: an unknown variant, or a named one that the data allow for no row.
    """
    unknown = sorted(set(variants or ()) - set(VARIANTS))
    if unknown:
        raise InputError(
            f"attacks.rewrite.variants: {unknown[0]!r} is unknown. Known: {', '.join(VARIANTS)}."
        )
    items = _records(rows)
    tables = []
    for name in variants or VARIANTS:
        prompts = [VARIANTS[name](item, material) for item in items]
        possible = np.array([prompt is not None for prompt in prompts])
        if not possible.any():
            if variants:
                raise InputError(
                    f"attacks.rewrite.variants: the data have no {name} of any forget row. "
                    "Leave it out, or give parallel rows that share a fact_id."
                )
            continue
        changed = rows[possible].assign(
            prompt=[prompt for prompt in prompts if prompt is not None], variant=name
        )
        tables.append(changed)
    return pd.concat(tables, ignore_index=True)


def rewrite(
    model: nn.Module,
    intervention: Intervention,
    rows: pd.DataFrame,
    material: Material,
    *,
    variants: Sequence[str] | None = None,
    score: Score,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score an arm on rewritten prompts.

    Args:
        model: the base model.
        intervention: fitted to it.
        rows: TEST forget rows.
        material: what rewrites are made of.
        variants: names; None for all that the data allow.
        score: scores a model on rows.

    Returns:
        (means, variants). The first has one row an item, its scores averaged over the variants that it
        has, without `OUTSIDE_MEAN`. The second has one row an item and variant, with the `prompt`.

    Raises:
        InputError: no row, an unknown variant, an item without any variant.
    """
    require_rows(rows, "rewrite")
    asked = rewrite_rows(rows, material, variants)
    with intervention.applied(model) as changed:
        table = scored(changed, asked, score)
    table["variant"] = asked["variant"].to_numpy()
    table["prompt"] = asked["prompt"].to_numpy()
    return mean_over_variants(table, rows), table


def mean_over_variants(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """One row an item, in the order of `rows`, with the mean over its variants.

    Raises:
        InputError: an item has no variant that counts.
    """
    keys = ["example_id", "language"]
    counted = table[~table["variant"].isin(OUTSIDE_MEAN)]
    means = counted.groupby(keys, sort=False)[list(SCORES)].mean().reset_index()
    result = rows[["example_id", "group", "language"]].merge(means, on=keys, how="left", validate="1:1")
    lost = result.loc[result["leak"].isna(), "example_id"]
    if len(lost):
        raise InputError(
            f"rewrite: {lost.iloc[0]!r} has no rewrite. Add `prefix` to attacks.rewrite.variants."
        )
    result.insert(0, "step", 0)
    result.insert(1, "variant", MEAN)
    return result


def _same_question(item: Item, material: Material, language: str) -> str | None:
    """The fact in another language, in the same template where there is one."""
    known = material.wordings(language).get(str(item["fact_id"]), [])
    same = [row for row in known if row["template_id"] == item["template_id"]]
    return next((str(row["prompt"]) for row in [*same, *known]), None)


def _shuffled(rows: Sequence[Item], use: str, item: Item) -> list[Item]:
    """Rows in an order that depends on the item alone, not on its language."""
    order = np.random.default_rng(seed_from("rewrite", use, item["example_id"])).permutation(len(rows))
    return [rows[place] for place in order]


def _records(rows: pd.DataFrame) -> list[Item]:
    return cast(list[Item], rows.to_dict("records"))
