import pytest

from mmie.errors import InputError
from mmie.language.latin import LABELS, SHIPPED, LatinClassifier, words_of
from mmie.language.votes import ABSTAIN

# Written by hand for this test; none of it stands in a package that the classifier was trained on.
SENTENCES = {
    "mujhe samajh nahin aata ki yah kaam kaise hoga": "hi_Latn",
    "pichhle saal humne apna ghar bech diya aur gaon chale gaye": "hi_Latn",
    "eh kamm saade pind de lokan ne kita si te assi vi naal saan": "pa_Latn",
    "tusin kithe ja rahe ho te kadon vapas aaoge": "pa_Latn",
    "amader gramer lokera sobai mile ei kajti korechilo": "bn_Latn",
    "apni kothay jacchen ebong kobe fire asben": "bn_Latn",
    "the whole village came together and finished the work": "en",
    "nobody knows where they went after the harvest": "en",
    "ons het gister na die mark gegaan en vrugte gekoop": "other",
    "me käisime eile turul ja ostsime palju puuvilju": "other",
    "kami pergi ke pasar kemarin untuk membeli buah": "other",
    "menimme eilen torille ostamaan hedelmiä lapsille": "other",
}


@pytest.fixture(scope="module")
def classifier() -> LatinClassifier:
    return LatinClassifier()


def test_hand_written_sentences_are_told_apart(classifier) -> None:
    labels = [vote.label for vote in classifier.vote(list(SENTENCES))]
    right = sum(label == truth for label, truth in zip(labels, SENTENCES.values(), strict=True))
    wrong = [label for label, truth in zip(labels, SENTENCES.values(), strict=True)
             if label not in (truth, ABSTAIN)]  # fmt: skip
    assert not wrong
    assert right >= 11


@pytest.mark.regression("LID-09")
def test_romanised_text_is_not_called_a_european_or_african_language(classifier) -> None:
    romanised = [text for text, label in SENTENCES.items() if label.endswith("_Latn")]
    assert not {vote.label for vote in classifier.vote(romanised)} & {"other", "en"}


@pytest.mark.regression("LID-09")
def test_punctuation_case_and_digits_change_nothing(classifier) -> None:
    plain, typed = classifier.vote(["yah kaam kaise hoga bhai", "  Yah KAAM, kaise hoga?? bhai... 12"])
    assert plain == typed


@pytest.mark.regression("LID-05", "LID-06")
def test_votes_are_probabilities_and_text_without_letters_abstains(classifier) -> None:
    votes = classifier.vote(["", "12 !", *SENTENCES])
    assert [vote.label for vote in votes[:2]] == [ABSTAIN, ABSTAIN]
    assert all(0.0 <= vote.confidence <= 1.0 for vote in votes)
    assert {vote.label for vote in votes} <= {*LABELS, ABSTAIN}


def test_floor_turns_a_weak_vote_into_an_abstention() -> None:
    strict = LatinClassifier(floor=1.01)
    assert {vote.label for vote in strict.vote(list(SENTENCES))} == {ABSTAIN}


@pytest.mark.regression("LID-07")
def test_missing_or_broken_model_is_an_error_that_names_the_remedy(tmp_path) -> None:
    with pytest.raises(InputError, match="rebuild it with the rule lid"):
        LatinClassifier(tmp_path / "latin.ftz")
    (tmp_path / "latin.ftz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a fastText model"):
        LatinClassifier(tmp_path / "latin.ftz")


def test_shipped_model_is_small_and_the_one_that_its_recipe_describes(classifier) -> None:
    import json

    recipe = json.loads((SHIPPED.parent / "recipe.json").read_text(encoding="utf-8"))
    assert SHIPPED.stat().st_size <= 2 * 1024 * 1024
    assert classifier.description()["sha256"] == recipe["model_sha256"]
    assert set(recipe["lines"]) == set(LABELS)


@pytest.mark.parametrize(
    ("text", "words"),
    [("What's UP, doc?", "what's up doc"), ("Škoda-auto 3", "škoda auto"), ("१२ !", ""), ("हिन्दी", "ह न द")],
)
def test_what_the_classifier_reads(text, words) -> None:
    assert words_of(text) == words
