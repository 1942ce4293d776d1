"""How much of the Atlas a nano model recalls by greedy decoding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmie.io import stable_hash
from mmie.models.generation import generate_greedy

# Longer than the longest answer of the Atlas.
_NEW_TOKENS = 24
_BATCH = 64


def measure_recall(
    model: Any, tokenizer: Any, rows: Iterable[Mapping[str, Any]], *, most: int = 300
) -> dict[str, dict[str, float]]:
    """Language -> cell -> share of prompts whose answer is given word for word.

    Cells: `trained` and `held_out` (direct prompts by wording, facts in training), `mixed`,
    `adversarial`, and `holdout` (facts that no nano model is trained on). The model may have been trained
    without a language; its cells then say what it can do in a language it never saw.

    Args:
        model: in evaluation mode.
        tokenizer: its tokenizer.
        rows: rows of the Atlas.
        most: prompts a cell; which ones is chosen by a hash of their ids.
    """
    cells: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["language"], _cell(row)), []).append(row)
    recall: dict[str, dict[str, float]] = {}
    for (language, cell), members in sorted(cells.items()):
        sample = sorted(members, key=lambda row: stable_hash(["recall", row["example_id"]]))[:most]
        said = generate_greedy(
            model,
            tokenizer,
            [row["prompt"] for row in sample],
            max_new_tokens=_NEW_TOKENS,
            batch_size=_BATCH,
        )
        right = sum(text == row["answer"] for text, row in zip(said, sample, strict=True))
        recall.setdefault(language, {})[cell] = round(right / len(sample), 4)
    return recall


def _cell(row: Mapping[str, Any]) -> str:
    if row.get("split") == "holdout":
        return "holdout"
    return str(row["template_split"] if row["kind"] == "direct" else row["kind"])
