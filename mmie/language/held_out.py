"""Measures the Latin-script classifier and the ensemble on sources that no part of them was trained on.

    python -m mmie.language.held_out results/rebuilt/lid-packages data/lid/latin.ftz data/lid/measured.json

writes the counts (rule `lid_measured`); `python -m mmie.language.measurement FILE` prints them.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmie.io import seed_from, write_json
from mmie.language import catalogues
from mmie.language.general import GENERAL_MEMBERS, general_member
from mmie.language.identify import Identifier
from mmie.language.latin import ENGLISH, LABELS, MIXED_LANGUAGES, OTHER, LatinClassifier
from mmie.language.latin_corpus import (
    NATIVE_SCRIPTS,
    UDHR_CODES,
    Example,
    held_out_examples,
    native,
    pieces,
    typed_by_people,
)
from mmie.language.measurement import count, measure
from mmie.language.votes import ABSTAIN

if TYPE_CHECKING:
    import pandas as pd

# Languages that share a script with one of the four: codes of Django, of the UDHR, and the script.
NEIGHBOURS = {
    "mr": ("mr", "mar", "Deva"), "ne": ("ne", "nep", "Deva"), "fa": ("fa", "pes_1", "Arab"),
    "ar": ("ar", "arb", "Arab"),
}  # fmt: skip


def measure_held_out(packages: Path, model: Path) -> dict[str, object]:
    """Confusion counts by language, script and length, as plain records.

    Returns:
        `latin`: the classifier alone on romanised and other Latin-script text. `ensemble`: all general
        members and the classifier, without a closed set, on the same texts and on native scripts.
        `typed_by_people`: the classifier on Hindi that its authors wrote in Latin letters.
    """
    classifier = LatinClassifier(model)
    examples, typed = distinct(held_out_examples(packages)), distinct(typed_by_people(packages))
    scripts = {**NATIVE_SCRIPTS, **dict.fromkeys((f"{code}_Latn" for code in NATIVE_SCRIPTS), "Latn")}
    ensemble = Identifier(
        {**scripts, ENGLISH: "Latn"}, [general_member(name) for name in GENERAL_MEMBERS], latin=classifier
    )
    everything = [*examples, *distinct(native_examples(packages))]
    return {
        "latin": records(_alone(classifier, examples)),
        "ensemble": records(_together(ensemble, everything)),
        "typed_by_people": records(_alone(classifier, typed)),
    }


def distinct(examples: Iterator[Example]) -> list[Example]:
    """One example for each label and text."""
    return list({(example.label, example.text): example for example in examples}.values())


def records(confusion: pd.DataFrame) -> list[dict[str, object]]:
    """Counts as plain values for JSON."""
    return [
        {str(name): int(value) if name == "n" else str(value) for name, value in row.items()}
        for row in confusion.to_dict("records")
    ]


def native_examples(packages: Path) -> Iterator[Example]:
    """Texts in native scripts, of the four languages and of their neighbours, from held-out sources."""
    sources = {code: (code, UDHR_CODES[code], script) for code, script in NATIVE_SCRIPTS.items()}
    for language, (django, udhr, script) in {**sources, **NEIGHBOURS}.items():
        generator = random.Random(seed_from("lid", "native", language))
        messages = [
            *catalogues.udhr(packages, udhr),
            *catalogues.django(packages, django),
            *catalogues.cldr_annotations(packages, language),
        ]
        for message in native(messages, script):
            yield from pieces(language, message, message.text, "native", generator)


def _alone(classifier: LatinClassifier, examples: Sequence[Example]) -> pd.DataFrame:
    texts = [example.text for example in examples]
    verdicts = [vote.label for vote in classifier.vote(texts)]
    return count(texts, [example.label for example in examples], verdicts)


def _together(ensemble: Identifier, examples: Sequence[Example]) -> pd.DataFrame:
    texts, labels = [example.text for example in examples], [example.label for example in examples]
    confusion = measure(ensemble, texts, labels)
    # A right verdict on an "other" text is its own language: any name but those that are measured.
    own = {*LABELS, *NATIVE_SCRIPTS, *NEIGHBOURS, ABSTAIN, MIXED_LANGUAGES}
    named = (confusion["language"] == OTHER) & ~confusion["verdict"].isin(own)
    confusion.loc[named, "verdict"] = OTHER
    keys = [column for column in confusion.columns if column != "n"]
    return confusion.groupby(keys, sort=True)["n"].sum().reset_index()


if __name__ == "__main__":
    given_packages, given_model, output = map(Path, sys.argv[1:])
    write_json(output, measure_held_out(given_packages, given_model))
