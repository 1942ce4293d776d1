"""Languages in Latin letters, for comparisons that letters shall not decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmie.data.romanise import romanise
from mmie.data.written_form import likely_script
from mmie.language.scripts import script_share

if TYPE_CHECKING:
    import pandas as pd


def latin_forms(languages: Sequence[str]) -> dict[str, bool]:
    """Languages that stand for all in Latin letters, each with whether its rows must be romanised first.

    A language in Latin letters stands for itself, and for its native form where both are given (`hi_Latn`
    for `hi`); any other is romanised.

    Raises:
        InputError: a language whose script is not known.
    """
    forms = {}
    for language in languages:
        latin = likely_script(language) == "Latn"
        if latin or f"{language.partition('_')[0]}_Latn" not in languages:
            forms[language] = not latin
    return forms


def romanised_rows(rows: pd.DataFrame, language: str) -> pd.DataFrame:
    """Rows with prompt and answer in Latin letters; texts without other letters stay as they are.

    Raises:
        InputError: uroman is missing, or leaves letters of another script.
    """
    return rows.assign(**{
        column: [
            romanise(text, language) if script_share(text, "Latn") < 1 else text for text in rows[column]
        ]
        for column in ("prompt", "answer")
    })  # fmt: skip
