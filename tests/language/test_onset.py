import math

import pytest

from mmie.language.identify import Identifier
from mmie.language.onset import (
    first_by_classifier,
    first_by_script,
    lid_onset,
    lid_onset_script_blind,
    onset,
    onset0,
)
from mmie.language.scripts import script_share

DEVANAGARI = Identifier({"hi": "Deva", "en": "Latn", "pa": "Guru"}, [])
PUNJABI = " ".join(["ਭਾਰਤ"] * 9 + ["ਹੈ।"] + ["ਰੁਪਇਆ"] * 10)


@pytest.mark.regression("EVA-01")
@pytest.mark.parametrize(
    ("text", "expected", "corrected"),
    [
        (" ".join(["भारत"] * 40), 0.975, 1.0),
        ("भारत", 0.0, 1.0),
        (" ".join(["भारत"] + ["word"] * 39), 0.975, 1.0),
        (" ".join(["word"] * 39 + ["भारत"]), 0.0, 0.025),
        (PUNJABI, 0.0, 0.0),
        ("I cannot answer", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_onset_has_the_values_of_the_published_table(text, expected, corrected) -> None:
    first = first_by_script(text, "Deva")
    assert onset(first, len(text.split())) == pytest.approx(expected)
    assert onset0(first, len(text.split())) == pytest.approx(corrected)
    assert lid_onset(text, "hi", DEVANAGARI) == pytest.approx(expected)


@pytest.mark.regression("LID-12")
def test_script_onset_equals_a_search_over_all_prefixes() -> None:
    text = "one 12 । two भा.b भारत is here"
    tokens = text.split()
    brute = next(
        (
            number
            for number in range(1, len(tokens) + 1)
            if any(script_share(token, "Deva") >= 0.5 for token in tokens[:number])
        ),
        None,
    )
    assert first_by_script(text, "Deva") == brute == 5


@pytest.mark.regression("LID-12")
@pytest.mark.parametrize(
    "text",
    [
        "bharat ki mudra kya hai",
        "The currency of Nepal is nepal ki mudra kya hai aur kaun si bhasha boli jati hai",
        "The currency of Nepal is unknown",
        "",
    ],
)
def test_classifier_onset_equals_a_search_over_all_prefixes(identifier, text) -> None:
    tokens = text.split()
    prefixes = [" ".join(tokens[:number]) for number in range(1, len(tokens) + 1)]
    labels = identifier.romanised.predict(prefixes)[0]
    brute = labels.index("hi_Latn") + 1 if "hi_Latn" in labels else None
    assert first_by_classifier(text, {"hi_Latn"}, identifier.romanised) == brute


def test_shared_script_without_a_classifier_has_no_onset() -> None:
    both = Identifier({"hi": "Deva", "mr": "Deva"}, [])
    assert math.isnan(lid_onset("भारत", "hi", both))


def test_script_blind_onset_sees_hindi_in_either_script(identifier) -> None:
    spelled = {"भारत": "bharat", "की": "ki", "मुद्रा": "mudra", "क्या": "kya", "है": "hai"}
    texts = ["bharat ki mudra kya hai", "भारत की मुद्रा क्या है", "What is the currency of Egypt?"]
    latin, native, english = lid_onset_script_blind(
        texts, "hi", identifier, lambda word, language: spelled[word]
    )
    assert latin == native > 0.5
    assert english == 0.0
    assert lid_onset(texts[0], "hi", identifier) == 0.0


def test_script_blind_onset_is_nan_without_a_romanised_form(identifier) -> None:
    assert all(map(math.isnan, lid_onset_script_blind(["রুপি"], "bn", identifier, lambda *_: "rupi")))
