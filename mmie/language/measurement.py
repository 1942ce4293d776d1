"""How often language identification is wrong: confusion counts on rows it was not fitted on.

    python -m mmie.language.measurement results/atlas-hi/data/*.parquet

prints the table of `docs/language.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmie.errors import InputError
from mmie.io import read_parquet
from mmie.language.identify import Identifier, build_identifier
from mmie.language.votes import ABSTAIN

if TYPE_CHECKING:
    import pandas as pd


def measure(identifier: Identifier, texts: Iterable[str], languages: Iterable[str]) -> pd.DataFrame:
    """Confusion counts on labelled texts.

    Returns:
        Columns language (truth), words ("1", "2-3", "4-7", "8+"), verdict, n.
    """
    import pandas as pd

    texts, languages = list(texts), list(languages)
    table = pd.DataFrame(
        {
            "language": languages,
            "words": [_length_class(text) for text in texts],
            "verdict": [verdict.language for verdict in identifier.identify(texts)],
        }
    )
    return table.groupby(["language", "words", "verdict"], sort=True).size().reset_index(name="n")


def summary(confusion: pd.DataFrame) -> pd.DataFrame:
    """Rates for each language and length: right, wrong (another language named), abstained.

    Returns:
        Columns language, words, n, right, wrong, abstained; the three rates sum to 1.
    """
    right = confusion["verdict"] == confusion["language"]
    abstained = confusion["verdict"] == ABSTAIN
    counts = confusion[["language", "words", "n"]].assign(
        right=confusion["n"] * right,
        wrong=confusion["n"] * ~(right | abstained),
        abstained=confusion["n"] * abstained,
    )
    table = counts.groupby(["language", "words"], sort=True).sum().reset_index()
    for rate in ("right", "wrong", "abstained"):
        table[rate] = table[rate] / table["n"]
    return table


def measure_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Measure an experiment's identifier on its own TEST rows: answers, prompts, and both together.

    Known answers are not given to it: only what classifiers can tell is measured.

    Args:
        rows: cleaned rows of every language.
    """
    identifier = build_identifier(rows)
    test = rows[(rows["split"] == "test") & (rows["kind"] == "direct")]
    if len(test) == 0:
        raise InputError("language identification: no TEST rows to measure on. Check data.*_share.")
    texts = {
        (language, text)
        for language, prompt, answer in zip(test["language"], test["prompt"], test["answer"], strict=True)
        for text in (answer, prompt, f"{prompt} {answer}".strip())
        if text
    }
    languages, distinct = zip(*sorted(texts), strict=True)
    return measure(identifier, distinct, languages)


def _length_class(text: str) -> str:
    words = len(text.split())
    return "1" if words <= 1 else "2-3" if words <= 3 else "4-7" if words <= 7 else "8+"


def main(arguments: Sequence[str]) -> None:
    """Print rates and confusions as Markdown for the Parquet files named on the command line."""
    import pandas as pd

    files = [Path(argument) for argument in arguments]
    if not files:
        raise SystemExit(__doc__)
    confusion = measure_rows(pd.concat([read_parquet(file) for file in files], ignore_index=True))
    print("| language | words | texts | right | wrong | abstained |\n|---|---|---|---|---|---|")
    for language, words, texts, *rates in summary(confusion).to_numpy().tolist():
        print(f"| {language} | {words} | {texts} | {' | '.join(f'{rate:.3f}' for rate in rates)} |")


if __name__ == "__main__":
    main(sys.argv[1:])
