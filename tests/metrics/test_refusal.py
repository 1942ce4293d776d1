import pytest

from mmie.metrics.refusal import REFUSALS, is_refusal


@pytest.mark.regression("EVA-08")
@pytest.mark.parametrize("language", sorted(REFUSALS))
def test_refusals_of_every_language_are_found_with_punctuation(language) -> None:
    for phrase in REFUSALS[language]:
        assert is_refusal(f"{phrase}.")
        assert is_refusal(f"“{phrase}”, x")


@pytest.mark.parametrize(
    "answer",
    ["Indian Rupee", "भारतीय रुपया", "بھارتی روپیہ", "ਭਾਰਤੀ ਰੁਪਇਆ", "ভারতীয় রুপি", "bharatiya rupaya", "",
     "Nothing", "I know it: Delhi"],
)  # fmt: skip
def test_answers_are_no_refusals(answer) -> None:
    assert not is_refusal(answer)
