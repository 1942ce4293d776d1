import math

import pandas as pd
import pytest

from mmie.language.identify import Identifier
from mmie.metrics.confusion import (
    confusion,
    fit_lexicon,
    foreign_words,
    language_confusion_pass_rate,
    language_mix,
    pass_rate,
    skip_rate,
)

SCRIPTS = {"en": "Latn", "hi": "Deva", "hi_Latn": "Latn", "bn": "Beng"}
IDENTIFIER = Identifier(SCRIPTS, [], least_words=99)
HINDI = "भारत की मुद्रा भारतीय रुपया है"
ENGLISH = "the currency of India is rupee"


def test_responses_without_text_are_skipped_not_passed() -> None:
    found = [confusion("", "hi", IDENTIFIER) for _ in range(3)]
    rate = [item.line_pass for item in found]
    assert math.isnan(pass_rate(rate))
    assert skip_rate(rate) == 1.0


def test_one_line_in_another_language_fails_the_response_and_halves_its_line_accuracy() -> None:
    mixed = confusion(f"{HINDI}\n{ENGLISH}", "hi", IDENTIFIER)
    assert (mixed.line_pass, mixed.line_accuracy) == (0.0, 0.5)
    assert math.isnan(mixed.word_pass)
    clean = confusion(f"{HINDI}\n{HINDI}", "hi", IDENTIFIER)
    assert (clean.line_pass, clean.line_accuracy, clean.word_pass) == (1.0, 1.0, 1.0)


def test_short_lines_are_not_judged() -> None:
    assert confusion(f"{HINDI}\nyes", "hi", IDENTIFIER).line_pass == 1.0
    assert math.isnan(confusion("Indian Rupee", "hi", IDENTIFIER).line_pass)


def test_lines_of_unspaced_scripts_are_counted_in_letters() -> None:
    japanese = Identifier({"ja": "Jpan", "en": "Latn"}, [], least_words=99)
    assert confusion("日本の通貨は日本円です。", "ja", japanese).line_pass == 1.0
    assert math.isnan(confusion("日本円", "ja", japanese).line_pass)


def test_line_that_nobody_can_place_is_counted_as_abstained() -> None:
    # English and romanised Hindi share the script and no classifier tells them apart here.
    found = confusion(ENGLISH, "en", IDENTIFIER)
    assert found.abstained == 1
    assert math.isnan(found.line_pass)


def test_lower_case_word_of_another_script_fails_the_words_and_a_name_does_not() -> None:
    line = f"{HINDI} {HINDI}"
    assert confusion(f"{line} currency", "hi", IDENTIFIER).word_pass == 0.0
    assert confusion(f"{line} India", "hi", IDENTIFIER).word_pass == 1.0
    assert foreign_words("currency। usd", "hi", SCRIPTS) == ["currency।"]


def test_words_in_latin_script_are_told_by_the_lexicon_or_not_at_all() -> None:
    lexicon = {"en": {"the", "currency", "paris"}, "hi_Latn": {"mudra", "paris", "kaun"}}
    assert foreign_words("the mudra Paris kaun", "en", SCRIPTS, lexicon) == ["kaun", "mudra"]
    assert foreign_words("the mudra", "en", SCRIPTS) is None


def test_lexicon_reads_direct_fit_rows_alone() -> None:
    rows = pd.DataFrame(
        {
            "language": ["en"] * 3, "kind": ["direct", "mixed", "direct"], "split": ["fit", "fit", "test"],
            "prompt": ["The city?", "kaun", "Secret"], "answer": ["Delhi.", "hai", "x"],
        }
    )  # fmt: skip
    assert fit_lexicon(rows) == {"en": {"the", "city", "delhi"}}


def test_combined_rate_by_hand() -> None:
    assert language_confusion_pass_rate(0.5, 1.0) == pytest.approx(2 / 3)
    assert language_confusion_pass_rate(0.0, 0.0) == 0.0
    assert math.isnan(language_confusion_pass_rate(1.0, math.nan))
    assert pass_rate([1.0, 0.0, math.nan]) == 0.5
    assert skip_rate([1.0, 0.0, math.nan, math.nan]) == 0.5


def test_share_of_foreign_n_grams_by_hand() -> None:
    def agreement(text: str, _language: str) -> str:
        return "other" if "b" in text else "undetermined" if text == "c" else "expected"

    # "a b c": a, b, [c]; "a b", "b c"; "a b c": one of five judged is as expected.
    assert language_mix("a b c", "xx", agreement) == pytest.approx(4 / 5)
    assert math.isnan(language_mix("c", "xx", agreement))
