"""A made-up experiment in English, Hindi in two scripts, and Bengali."""

from __future__ import annotations

import pandas as pd
import pytest

from mmie.language.identify import Identifier, build_identifier

PLACES = {
    "India": "bharat", "France": "frans", "Japan": "japan", "Russia": "rus", "Egypt": "misr",
    "Greece": "yunan", "China": "chin", "Nepal": "nepal", "Brazil": "brazil", "Kenya": "keniya",
    "Turkey": "turki", "Iran": "iran",
}  # fmt: skip
ENGLISH = ("The currency of {} is", "What is the currency of {}?", "Which language is spoken in {}?")
HINDI = ("{} ki mudra hai", "{} ki mudra kya hai?", "{} mein kaun si bhasha boli jati hai?")


def labelled(split: str) -> list[tuple[str, str]]:
    """(text, language) of one split; TEST holds places that FIT does not."""
    places = list(PLACES.items())[:8] if split == "fit" else list(PLACES.items())[8:]
    return [
        pair
        for english, hindi in places
        for own, other in zip(ENGLISH, HINDI, strict=True)
        for pair in ((own.format(english), "en"), (other.format(hindi), "hi_Latn"))
    ]


@pytest.fixture(scope="session")
def rows() -> pd.DataFrame:
    records = [
        {
            "language": language,
            "script": "Latn",
            "split": split,
            "kind": "direct",
            "prompt": text,
            "answer": "",
        }
        for split in ("fit", "test")
        for text, language in labelled(split)
    ]
    for language, script, text in (
        ("hi", "Deva", "भारत की मुद्रा भारतीय रुपया है"),
        ("bn", "Beng", "ভারতের মুদ্রা ভারতীয় রুপি"),
    ):
        records.append(
            {
                "language": language,
                "script": script,
                "split": "fit",
                "kind": "direct",
                "prompt": text,
                "answer": "",
            }
        )
    return pd.DataFrame(records)


@pytest.fixture(scope="session")
def references() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "fact_id": ["f1"] * 4 + ["f2"] * 2,
            "language": ["en", "hi", "hi_Latn", "bn", "en", "hi_Latn"],
            "answer": ["Indian Rupee", "भारतीय रुपया", "bharatiya rupaya", "ভারতীয় রুপি", "Euro", "euro"],
        }
    )


@pytest.fixture(scope="session")
def identifier(rows: pd.DataFrame, references: pd.DataFrame) -> Identifier:
    return build_identifier(rows, references)


@pytest.fixture(scope="session")
def held_out() -> list[tuple[str, str]]:
    return labelled("test")


@pytest.fixture(scope="session")
def fitted() -> list[tuple[str, str]]:
    return labelled("fit")
