"""The answers that count as right, in every language."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def accepted_answers(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Every answer to every fact: the rows' own and their aliases.

    Args:
        frames: cleaned rows of any number of languages.

    Returns:
        Columns fact_id, language, answer: sorted, without repetitions. Evaluation uses them to tell a
        right answer in the wrong language from a wrong one, and another accepted form from an error.
    """
    import pandas as pd

    rows = {
        (str(fact), str(language), str(text))
        for frame in frames
        for fact, language, answer, aliases in frame[["fact_id", "language", "answer", "aliases"]].itertuples(
            index=False
        )
        for text in (answer, *json.loads(aliases))
    }
    return pd.DataFrame(sorted(rows), columns=["fact_id", "language", "answer"])
