"""How often language identification is wrong: confusion counts on texts it was not fitted on.

    python -m mmie.language.measurement results/atlas-hi/data/*.parquet    # an experiment's own TEST rows
    python -m mmie.language.measurement data/lid/measured.json             # counts that are stored

prints the tables of `docs/language.md`; `--json FILE` stores the counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmie.errors import InputError
from mmie.io import read_json, read_parquet, write_json
from mmie.language.identify import Identifier, Verdict, build_identifier
from mmie.language.latin import MIXED_LANGUAGES
from mmie.language.scripts import dominant_script
from mmie.language.votes import ABSTAIN

if TYPE_CHECKING:
    import pandas as pd

LENGTHS = ("1-3", "4-8", "9+")
_CELL = ["language", "script", "words"]


def measure(identifier: Identifier, texts: Iterable[str], languages: Iterable[str]) -> pd.DataFrame:
    """Confusion counts on labelled texts.

    Returns:
        Columns language (truth), script (of the text), words ("1-3", "4-8", "9+"), verdict, n. A text
        that the identifier left open because it mixes languages has the verdict "mixed".
    """
    texts = list(texts)
    return count(texts, languages, [_named(verdict) for verdict in identifier.identify(texts)])


def count(texts: Sequence[str], languages: Iterable[str], verdicts: Sequence[str]) -> pd.DataFrame:
    """Confusion counts of verdicts that were made elsewhere; columns as of `measure`."""
    import pandas as pd

    table = pd.DataFrame(
        {
            "language": list(languages),
            "script": [dominant_script(text) for text in texts],
            "words": [length_class(text) for text in texts],
            "verdict": verdicts,
        }
    )
    return table.groupby([*_CELL, "verdict"], sort=True).size().reset_index(name="n")


def summary(confusion: pd.DataFrame) -> pd.DataFrame:
    """Rates for each language, script and length: right, wrong (another language named), abstained.

    Returns:
        Columns language, script, words, n, right, wrong, abstained; the three rates sum to 1.
    """
    right = confusion["verdict"] == confusion["language"]
    abstained = (confusion["verdict"] == ABSTAIN) | ((confusion["verdict"] == MIXED_LANGUAGES) & ~right)
    counts = confusion[[*_CELL, "n"]].assign(
        right=confusion["n"] * right,
        wrong=confusion["n"] * ~(right | abstained),
        abstained=confusion["n"] * abstained,
    )
    table = counts.groupby(_CELL, sort=True).sum().reset_index()
    for rate in ("right", "wrong", "abstained"):
        table[rate] = table[rate] / table["n"]
    return table


def measure_rows(identifier: Identifier, rows: pd.DataFrame) -> pd.DataFrame:
    """Measure an experiment's identifier on its own TEST rows: answers, prompts, and both together.

    Args:
        identifier: built without known answers, so that only what classifiers can tell is measured.
        rows: cleaned rows of every language.
    """
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


def length_class(text: str) -> str:
    """Length of a text in words: "1-3", "4-8" or "9+"."""
    words = len(text.split())
    return LENGTHS[0] if words <= 3 else LENGTHS[1] if words <= 8 else LENGTHS[2]


def _named(verdict: Verdict) -> str:
    return MIXED_LANGUAGES if verdict.basis == "mixed languages" else verdict.language


def markdown(confusion: pd.DataFrame) -> str:
    """The rates of `summary` as a Markdown table."""
    lines = [
        "| language | script | words | texts | right | wrong | abstained |",
        "|---|---|---|---|---|---|---|",
    ]
    for *cell, n, right, wrong, abstained in summary(confusion).to_numpy().tolist():
        lines.append(f"| {' | '.join(cell)} | {n} | {right:.3f} | {wrong:.3f} | {abstained:.3f} |")
    return "\n".join(lines)


def matrix_markdown(confusion: pd.DataFrame) -> str:
    """Counts of all lengths as a Markdown table: rows are the truth, columns the verdicts of 1 % and more.

    Rarer verdicts share the column "rest".
    """
    import pandas as pd

    table = confusion.pivot_table(
        index="language", columns="verdict", values="n", aggfunc="sum", fill_value=0
    ).astype(int)
    shares = table.div(table.sum(axis=1), axis=0).max()
    common = [name for name in table.columns if shares[name] >= 0.01 and name != ABSTAIN]
    shown = pd.DataFrame({name: table[name] for name in common})
    shown["rest"] = table.drop(columns=[*common, ABSTAIN], errors="ignore").sum(axis=1)
    shown[ABSTAIN] = table.get(ABSTAIN, 0)
    shown = shown.astype(int)
    lines = [f"| | {' | '.join(map(str, shown.columns))} |", "|---" * (len(shown.columns) + 1) + "|"]
    for language, row in zip(shown.index, shown.to_numpy().tolist(), strict=True):
        lines.append(f"| {language} | {' | '.join(map(str, row))} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print rates as Markdown for the files named on the command line."""
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--json", type=Path, help="store the counts of an experiment here")
    options = parser.parse_args(arguments)
    if options.files[0].suffix == ".json":
        tables = {
            name: pd.DataFrame(entries)
            for name, entries in read_json(options.files[0]).items()
            if isinstance(entries, list)
        }
    else:
        rows = pd.concat(map(read_parquet, options.files), ignore_index=True)
        tables = {"experiment": measure_rows(build_identifier(rows), rows)}
    if options.json:
        write_json(options.json, {name: table.to_dict("records") for name, table in tables.items()})
    for name, table in tables.items():
        print(f"{name}\n\n{markdown(table)}\n\n{matrix_markdown(table)}\n")


if __name__ == "__main__":
    main()
