"""Texts a second of language identification, each member and the ensemble, on one core.

    python bench/language.py                 # Atlas TEST answers and prompts, as generations look
    python bench/language.py --profile       # and where the time of the ensemble goes

Every repeat classifies distinct texts anew, in one batch, caches emptied. CPU time of this process is
counted, so other jobs on the machine disturb less; the median of the repeats is printed.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mmie.language.identify import Identifier, build_identifier
from mmie.language.scripts import dominant_script
from mmie.metrics.text import comparable

CORPUS = Path(__file__).resolve().parents[1] / "data" / "atlas"
SCRIPTS = {"en": "Latn", "hi": "Deva", "hi_Latn": "Latn", "bn": "Beng", "pa": "Guru", "ur": "Arab"}


def corpus_rows(per_language: int) -> pd.DataFrame:
    """The first direct rows of each shipped language, every second one for fitting."""
    records = []
    for language, script in SCRIPTS.items():
        lines = (CORPUS / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()[:per_language]
        for place, line in enumerate(lines):
            row = json.loads(line)
            records.append(
                {"language": language, "script": script, "split": "test" if place % 2 else "fit",
                 "kind": "direct", "prompt": row["prompt"], "answer": row["answer"]}
            )  # fmt: skip
    return pd.DataFrame(records)


def rate(work: Callable[[], object], texts: Sequence[str], repeats: int) -> float:
    """Median texts a second of CPU time."""
    seconds = []
    for _ in range(repeats):
        comparable.cache_clear()
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return len(texts) / float(np.median(seconds))


def fresh(identifier: Identifier, texts: Sequence[str]) -> object:
    """Verdicts that no earlier call remembers."""
    identifier.forget()
    return identifier.identify(texts)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=3000, help="rows of each language")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    rows = corpus_rows(options.rows)
    known = rows[["language", "answer"]].drop_duplicates()
    identifier = build_identifier(rows, known)
    test = rows[rows["split"] == "test"]
    texts = list(dict.fromkeys([*test["prompt"], *test["answer"]]))
    latin = [text for text in texts if dominant_script(text) == "Latn"]
    letters = sum(map(len, texts)) / len(texts)
    print(f"{len(texts)} distinct texts of {letters:.0f} characters, {len(latin)} of them in Latin letters\n")
    print("| member | texts | texts a second and core |\n|---|---|---|")
    for member in identifier.all_members():
        own = latin if member.name in ("latin", "romanised") else texts
        speed = rate(lambda member=member, own=own: member.vote(own), own, options.repeats)
        print(f"| {member.name} | {len(own)} | {speed:,.0f} |")
    speed = rate(lambda: fresh(identifier, texts), texts, options.repeats)
    print(f"| ensemble | {len(texts)} | {speed:,.0f} |")
    if options.profile:
        comparable.cache_clear()
        profiler = cProfile.Profile()
        profiler.runcall(fresh, identifier, texts)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(18)


if __name__ == "__main__":
    main()
