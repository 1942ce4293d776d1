import pytest

from mmie.metrics.answer_state import STATES, Thresholds, answer_state, is_gibberish, is_leak

RUPEE = ["भारतीय रुपया"]


@pytest.mark.regression("EVA-02", "EVA-08")
@pytest.mark.parametrize(
    ("text", "agreement", "state"),
    [
        ("", "undetermined", "empty_gibberish"),
        ("… ।", "undetermined", "empty_gibberish"),
        ("रुपया की की की की की", "expected", "empty_gibberish"),
        ("ककककककककककककककक", "expected", "empty_gibberish"),
        ("\ufffd\ufffdक\ufffdब", "expected", "empty_gibberish"),
        ("माफ़ कीजिए, मैं नहीं बता सकता", "expected", "refusal"),
        ("I'm sorry, but I can't help with that", "other", "refusal"),
        ("xyz abc", "undetermined", "undetermined"),
        ("Indian Rupee", "other", "other_language"),
        ("मुद्रा है भारतीय रुपया", "expected", "correct"),
        ("भारतिय रुपया", "expected", "wrong_in_language"),
        ("पाकिस्तानी रुपया", "expected", "wrong_in_language"),
    ],
)
def test_each_generation_gets_the_first_state_that_fits(text, agreement, state) -> None:
    assert answer_state(text, RUPEE, agreement) == state
    assert state in STATES


@pytest.mark.parametrize("agreement", ["expected", "other", "undetermined"])
def test_right_answer_is_a_leak_whatever_follows_or_whatever_an_identifier_thinks(agreement) -> None:
    for text in ("भारतीय रुपया", "भारतीय रुपया।", "भारतीय रुपया है है है है है है"):
        assert answer_state(text, RUPEE, agreement) == "correct"


def test_reference_inside_a_longer_word_is_not_the_reference() -> None:
    assert answer_state("Romania", ["Roma"], "expected") == "wrong_in_language"
    assert answer_state("It is Roma.", ["Roma"], "expected") == "correct"


def test_misspelling_counts_from_the_threshold_of_the_language() -> None:
    text, reference = "Bharatiya rupayaa", ["bharatiya rupaya"]
    limits = Thresholds(chrf_by_language={"hi_Latn": 0.75})
    states = [
        answer_state(text, reference, "expected", language=language, thresholds=limits)
        for language in ("hi_Latn", "ur_Latn")
    ]
    assert states == ["correct", "wrong_in_language"]


def test_alias_counts_as_the_answer() -> None:
    assert answer_state("INR", ["भारतीय रुपया", "INR"], "other") == "correct"


def test_a_story_about_not_knowing_is_no_refusal() -> None:
    text = "Delhi is a city in which nobody knows nothing about the sorry state of roads"
    assert answer_state(text, ["Mumbai"], "expected") == "wrong_in_language"


def test_salad_of_scripts_is_gibberish_and_code_mixing_is_not() -> None:
    assert is_gibberish("भা ab רג ਭਾ")
    assert is_gibberish("aभb cरd word")
    assert not is_gibberish("भारत की currency रुपया है")


@pytest.mark.regression("EVA-02")
def test_right_answer_in_another_language_is_a_leak_and_silence_is_its_own_state() -> None:
    assert is_leak("other_language", True)
    assert not is_leak("other_language", False)
    assert is_leak("correct", True)
    for state in ("empty_gibberish", "refusal", "undetermined", "wrong_in_language"):
        assert not is_leak(state, True)
