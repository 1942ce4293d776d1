from __future__ import annotations

import pandas as pd
import pytest

from mmie.attacks.rows import RELEARN_DATA, relearn_sets, scored_rows
from mmie.errors import InputError
from mmie.stage_options import Attacks


def table(language: str) -> pd.DataFrame:
    """Forty groups of one prompt each: 20 FIT, 8 DEV, 12 TEST; every second TEST prompt is mixed."""
    splits = ["fit"] * 20 + ["dev"] * 8 + ["test"] * 12
    return pd.DataFrame(
        {
            "example_id": [f"fact{number}/q1" for number in range(40)],
            "group": [f"fact{number}" for number in range(40)],
            "language": language,
            "split": splits,
            "template_split": "trained",
            "kind": ["mixed" if number >= 28 and number % 2 else "direct" for number in range(40)],
        }
    )


FORGET, RETAIN = [table("hi"), table("hi_Latn")], [table("en")]


@pytest.mark.parametrize("attack", RELEARN_DATA)
def test_no_group_is_held_and_scored(attack: str) -> None:
    held, scored = relearn_sets(attack, FORGET, RETAIN, items=50)
    assert set(held["group"]).isdisjoint(scored["group"])
    assert set(held["kind"]) | set(scored["kind"]) == {"direct"}
    assert set(scored["language"]) == {"hi", "hi_Latn"}


def test_each_attack_holds_what_it_says() -> None:
    sets = {attack: relearn_sets(attack, FORGET, RETAIN, items=50) for attack in RELEARN_DATA}
    splits = {attack: (set(held["split"]), set(scored["split"])) for attack, (held, scored) in sets.items()}
    assert splits == {
        "relearn": ({"fit"}, {"test"}),
        "relearn_subset": ({"fit"}, {"fit"}),
        "relearn_held_out": ({"dev"}, {"test"}),
        "relearn_benign": ({"fit"}, {"test"}),
    }
    assert set(sets["relearn_benign"][0]["language"]) == {"en"}
    held, scored = sets["relearn_subset"]
    assert len(held) + len(scored) == 40 and 4 <= held["group"].nunique() <= 16


def test_languages_are_scored_on_the_same_items() -> None:
    for attack in RELEARN_DATA:
        scored = relearn_sets(attack, FORGET, RETAIN, items=4)[1]
        by_language = scored.groupby("language")["example_id"].apply(sorted)
        assert len(by_language["hi"]) == 4
        assert by_language["hi"] == by_language["hi_Latn"]


def test_dev_and_test_share_no_row() -> None:
    dev, test = scored_rows(FORGET, 50, "dev"), scored_rows(FORGET, 50)
    assert set(dev["split"]) == {"dev"} and set(dev["group"]).isdisjoint(test["group"])


def test_every_relearning_attack_of_the_configuration_has_rows() -> None:
    configured = {name for name in Attacks.model_fields if name.startswith("relearn")}
    assert configured == set(RELEARN_DATA)
    with pytest.raises(InputError, match="no relearning attack"):
        relearn_sets("int8", FORGET, RETAIN, items=4)
