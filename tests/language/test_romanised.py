import numpy as np
import pytest

from mmie.errors import InputError
from mmie.language.romanised import RomanisedClassifier
from mmie.language.votes import ABSTAIN


@pytest.fixture(scope="module")
def classifier(fitted) -> RomanisedClassifier:
    return RomanisedClassifier.fit([text for text, _ in fitted], [label for _, label in fitted])


@pytest.mark.regression("LID-09")
def test_romanised_hindi_and_english_are_told_apart_on_unseen_places(classifier, held_out) -> None:
    labels, _ = classifier.predict([text for text, _ in held_out])
    truth = [label for _, label in held_out]
    wrong = sum(label not in (ABSTAIN, true) for label, true in zip(labels, truth, strict=True))
    right = sum(label == true for label, true in zip(labels, truth, strict=True))
    assert wrong == 0
    assert right >= 0.9 * len(truth)


@pytest.mark.regression("LID-09")
def test_cue_before_a_full_stop_counts_as_much_as_one_before_a_space(classifier) -> None:
    plain, stopped = classifier.predict(["yah bharat ki mudra hai", "yah, bharat ki mudra hai."])[1]
    assert plain == stopped


@pytest.mark.regression("LID-05", "LID-06")
def test_confidence_is_a_probability_and_low_confidence_abstains(classifier) -> None:
    labels, confidence = classifier.predict(["", "12 !", "zq xv jj wq", "भारत"])
    assert labels == [ABSTAIN] * 4
    assert np.all((confidence >= 0) & (confidence <= 1))
    assert confidence[0] == 0.0


def test_verdict_does_not_depend_on_the_other_texts_of_the_batch(classifier, held_out) -> None:
    texts = [text for text, _ in held_out]
    together = classifier.predict(texts)[1]
    alone = [classifier.predict([text])[1][0] for text in texts]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


@pytest.mark.regression("LID-12")
@pytest.mark.parametrize(
    "text",
    [
        "The currency of India is bharatiya rupaya hai",
        "bharat, ki mudra - hai! ... rupaya",
        "  What's   the\ncurrency?  12 ",
        "-",
        "x",
    ],
)
def test_prefix_scores_equal_those_of_every_prefix_classified_by_itself(classifier, text) -> None:
    tokens = text.split()
    prefixes = [" ".join(tokens[: number + 1]) for number in range(len(tokens))]
    scores = classifier.prefixes(text)
    assert scores.confidence.shape == (len(tokens), 2)
    np.testing.assert_allclose(scores.confidence.max(1), classifier.predict(prefixes)[1], rtol=1e-9)


def test_fit_refuses_one_language_or_too_few_texts(fitted) -> None:
    english = [text for text, label in fitted if label == "en"]
    with pytest.raises(InputError, match="two languages"):
        RomanisedClassifier.fit(english, ["en"] * len(english))
    with pytest.raises(InputError, match="distinct texts"):
        RomanisedClassifier.fit(["a b", "c d"] * 30, ["en", "hi_Latn"] * 30)


def test_fitting_twice_gives_the_same_classifier(fitted, held_out) -> None:
    texts, labels = [text for text, _ in fitted], [label for _, label in fitted]
    first = RomanisedClassifier.fit(texts, labels)
    second = RomanisedClassifier.fit(texts[::-1], labels[::-1])
    queries = [text for text, _ in held_out]
    assert np.array_equal(first.predict(queries)[1], second.predict(queries)[1])
