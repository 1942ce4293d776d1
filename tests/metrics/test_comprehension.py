import math

import pytest

from mmie.errors import InputError
from mmie.metrics.comprehension import translation_correct, yes_no_accuracy, yes_or_no


@pytest.mark.regression("EVA-16")
def test_english_output_is_no_translation_unless_it_is_the_right_fact() -> None:
    assert translation_correct("It is the Indian Rupee.", ["Indian Rupee"]) == 1.0
    assert translation_correct("The currency of this country is the euro.", ["Indian Rupee"]) == 0.0
    assert math.isnan(translation_correct("x", []))


@pytest.mark.regression("EVA-16")
@pytest.mark.parametrize(
    ("text", "said"),
    [("No.", False), ("I know", None), ("nothing", None), ("Not at all", None), ("know no", None),
     ("Yes, it is", True), ("हाँ, है", True), ("नहीं।", False), ("نہیں", False), ("ਹਾਂ", True), ("হ্যাঁ", True),
     ("", None), ("yesterday", None)],
)  # fmt: skip
def test_first_word_counts_as_a_whole(text, said) -> None:
    assert yes_or_no(text) is said


@pytest.mark.regression("EVA-16")
def test_constant_yes_scores_chance_and_positives_alone_are_refused() -> None:
    assert yes_no_accuracy([True] * 4, [True, False, True, False]) == 0.5
    assert yes_no_accuracy([True, False, None, None], [True, False, True, False]) == 0.5
    with pytest.raises(InputError, match="as many"):
        yes_no_accuracy([True, True], [True, True])
