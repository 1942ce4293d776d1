"""Rates that rest on language identification, with its abstentions and corrected for its errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mmie.language.correction import abstention, corrected_rate

COLUMNS = ("arm", "language", "script", "n", "abstained", "raw", "corrected")


def identification(
    evaluation: pd.DataFrame, reliability: Mapping[str, Mapping[str, Any]] | None
) -> pd.DataFrame:
    """Share of answers in the expected language, raw and corrected for the identifier's measured errors.

    Args:
        evaluation: rows with arm, language, script and target_language (1, 0, or NaN where undetermined).
        reliability: by language, the identifier's measured `right` and `false_positives`; None leaves the
            corrected rate out.

    Returns:
        One row an arm, language and script. `raw` is the share of answers that were given the language, of
        all n: an abstention is not the language. `corrected` is `mmie.language.correction.corrected_rate` of
        it, NaN where the identifier was not measured.
    """
    if not {"target_language", "script"} <= set(evaluation):
        return pd.DataFrame(columns=list(COLUMNS))
    table = abstention(evaluation)
    given = evaluation.assign(raw=evaluation["target_language"].fillna(0.0))
    raw = given.groupby(["arm", "language", "script"], sort=True)["raw"].mean().reset_index()
    table = table.merge(raw, on=["arm", "language", "script"], validate="one_to_one")
    measured = reliability or {}
    table["corrected"] = [
        corrected_rate(share, measured[language]["right"], measured[language]["false_positives"])
        if language in measured
        else float("nan")
        for language, share in zip(table["language"].astype(str), table["raw"].astype(float), strict=True)
    ]
    return table[list(COLUMNS)]
