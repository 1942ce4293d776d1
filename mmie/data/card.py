"""The data card: what the corpora hold, counted from the rows and written by nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mmie.language.scripts import script_counts

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = (
    "language", "rows", "facts", "groups", "templates", "fit", "dev", "test", "holdout", "direct", "mixed",
    "adversarial", "generated", "natural", "scripts of prompts and answers",
)  # fmt: skip


def data_card(frames: Mapping[str, pd.DataFrame]) -> str:
    """A Markdown table with one line a language.

    Args:
        frames: cleaned rows by language.
    """
    lines = [
        "# Data card",
        "",
        "Counted from the checked rows. Scripts are shares of all letters and marks.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---|' * len(_COLUMNS)}",
    ]
    for language, frame in sorted(frames.items()):
        cells = [language, len(frame), frame["fact_id"].nunique(), frame["group"].nunique()]
        cells.append(frame["template_id"][frame["template_id"] != ""].nunique())
        cells += [int((frame["split"] == split).sum()) for split in ("fit", "dev", "test", "holdout")]
        cells += [int((frame["kind"] == kind).sum()) for kind in ("direct", "mixed", "adversarial")]
        cells += [int((frame["provenance"] == name).sum()) for name in ("generated", "natural")]
        cells.append(_scripts(frame))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def _scripts(frame: pd.DataFrame) -> str:
    counts = script_counts(" ".join([*frame["prompt"], *frame["answer"]]))
    total = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{script} {count / total:.1%}" for script, count in ordered) or "none"
