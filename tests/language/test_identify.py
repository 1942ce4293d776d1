import json

import pandas as pd
import pytest

from mmie.errors import InputError
from mmie.language.identify import Identifier, build_identifier
from mmie.language.votes import ABSTAIN, Vote


class Stub:
    """A member that answers from a table and counts what it is asked."""

    def __init__(self, name: str, labels: dict[str, str] | None = None, otherwise: str = ABSTAIN):
        self.name, self.labels, self.otherwise, self.asked = name, labels or {}, otherwise, 0

    def vote(self, texts):
        self.asked += len(texts)
        return [Vote(self.name, self.labels.get(text, self.otherwise), 0.9) for text in texts]

    def description(self):
        return {"member": self.name}


SCRIPTS = {"en": "Latn", "hi": "Deva", "ur": "Arab", "bn": "Beng"}
HINDI = "भारत की मुद्रा भारतीय रुपया है"


@pytest.mark.regression("LID-03", "LID-04")
@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("भारताचे चलन भारतीय रुपया आहे", "mr"),
        ("भारतको मुद्रा भारतीय रुपैयाँ हो", "ne"),
        ("واحد پول هند روپیه است", "fa"),
        ("عملة الهند هي الروبية الهندية", "ar"),
    ],
)
def test_neighbours_in_the_same_script_keep_their_own_label(identifier, text, label) -> None:
    assert identifier.identify([text])[0].language == label


@pytest.mark.regression("LID-04")
def test_labels_are_renamed_only_by_a_configured_mapping() -> None:
    members = [Stub("a", otherwise="mr")]
    assert Identifier(SCRIPTS, members).identify([HINDI])[0].language == "mr"
    mapped = Identifier(SCRIPTS, members, label_map={"mr": "hi"})
    assert mapped.identify([HINDI])[0].language == "hi"
    assert mapped.description()["label_map"] == {"mr": "hi"}


@pytest.mark.regression("LID-03")
def test_script_alone_never_names_a_language() -> None:
    silent = Identifier(SCRIPTS, [Stub("a")])
    for text in (HINDI, "بھارت کی کرنسی روپیہ ہے", "हिन्दी"):
        assert silent.identify([text])[0].language == ABSTAIN


@pytest.mark.regression("LID-05")
def test_tie_abstains_and_the_votes_say_why() -> None:
    verdict = Identifier(SCRIPTS, [Stub("a", otherwise="hi"), Stub("b", otherwise="mr")]).identify([HINDI])[0]
    assert (verdict.language, verdict.basis) == (ABSTAIN, "no majority")
    assert json.loads(verdict.record())["votes"] == {"a": ["hi", 0.9], "b": ["mr", 0.9]}


@pytest.mark.regression("LID-12")
def test_each_distinct_text_is_classified_once() -> None:
    member = Stub("a", otherwise="hi")
    identifier = Identifier(SCRIPTS, [member])
    identifier.identify([HINDI] * 50 + ["x y z w"])
    for _ in range(3):
        identifier.agreement(HINDI, "hi")
        identifier.identify([HINDI])
    assert member.asked == 2


def test_short_text_abstains_though_members_guess() -> None:
    verdict = Identifier(SCRIPTS, [Stub("a", otherwise="hi")]).identify(["भारतीय रुपया"])[0]
    assert (verdict.language, verdict.basis) == (ABSTAIN, "short")


def test_short_answer_in_an_unshared_script_agrees_by_script() -> None:
    identifier = Identifier(SCRIPTS, [Stub("a")])
    assert identifier.agreement("भारतीय रुपया", "hi") == "expected"
    assert identifier.agreement("Indian Rupee", "hi") == "other"
    assert identifier.agreement("12 !", "hi") == "undetermined"


def test_short_answer_in_a_shared_script_is_undetermined() -> None:
    identifier = Identifier({**SCRIPTS, "mr": "Deva"}, [Stub("a")])
    assert identifier.agreement("भारतीय रुपया", "hi") == "undetermined"


@pytest.mark.regression("LID-08")
def test_identifier_that_always_abstains_leaves_long_answers_undetermined() -> None:
    assert Identifier(SCRIPTS, [Stub("a")]).agreement(HINDI, "hi") == "undetermined"


@pytest.mark.regression("LID-08")
def test_exception_of_a_member_is_not_swallowed() -> None:
    class Failing(Stub):
        def vote(self, texts):
            raise RuntimeError("model file truncated")

    with pytest.raises(RuntimeError, match="truncated"):
        Identifier(SCRIPTS, [Failing("a")]).identify([HINDI])


def test_romanised_and_native_hindi_get_their_own_codes(identifier) -> None:
    native, romanised, english = identifier.identify(
        [HINDI, "nepal ki mudra kya hai?", "Which currency is used in Nepal today?"]
    )
    assert (native.language, romanised.language, english.language) == ("hi", "hi_Latn", "en")


def test_language_outside_the_closed_set_is_not_forced_into_it(identifier) -> None:
    german = "Deutschland ist ein Land in Europa und hat viele Städte"
    assert identifier.identify([german])[0].language == "de"


def test_known_answer_of_one_language_decides_where_nothing_else_could(identifier) -> None:
    assert identifier.identify(["bharatiya rupaya"])[0].basis == "known answer"
    assert identifier.agreement("Indian Rupee", "hi_Latn") == "other"
    assert identifier.identify(["Euro"])[0].basis != "known answer"


@pytest.mark.regression("LID-07")
def test_building_with_an_absent_member_or_without_rows_is_an_error(rows) -> None:
    with pytest.raises(InputError, match="not a member"):
        build_identifier(rows, members=["cld9"])
    with pytest.raises(InputError, match="no rows"):
        build_identifier(pd.DataFrame(columns=["language", "script", "split", "kind", "prompt", "answer"]))


def test_description_holds_every_member_for_the_manifest(identifier) -> None:
    members = [entry["member"] for entry in identifier.description()["members"]]
    assert members == ["fasttext", "langid", "latin", "romanised"]


ROMANISED_PUNJABI = "tusin kithe ja rahe ho te kadon vapas aaoge"


def shipped(label: str, confidence: float = 0.95) -> Stub:
    stub = Stub("latin", otherwise=label)
    stub.vote = lambda texts: [Vote("latin", label, confidence) for _ in texts]  # type: ignore[method-assign]
    return stub


@pytest.mark.regression("LID-09")
def test_romanised_text_outside_the_experiment_keeps_its_own_name(identifier) -> None:
    verdict = identifier.identify([ROMANISED_PUNJABI])[0]
    assert (verdict.language, verdict.basis) in {("pa_Latn", "romanised"), (ABSTAIN, "no majority")}
    alone = Identifier(SCRIPTS, identifier.members, latin=identifier.latin)
    assert alone.identify([ROMANISED_PUNJABI])[0].language == "pa_Latn"
    assert alone.agreement(ROMANISED_PUNJABI, "en") == "other"


def test_classifier_for_latin_script_is_not_asked_about_other_scripts() -> None:
    latin = Stub("latin", otherwise="hi_Latn")
    verdicts = Identifier(SCRIPTS, [Stub("a", otherwise="hi")], latin=latin).identify([HINDI, "a b c d e"])
    assert latin.asked == 1
    assert [len(verdict.votes) for verdict in verdicts] == [1, 2]


def test_english_of_the_latin_classifier_is_one_vote_more() -> None:
    text = "one two three four"
    members = [Stub("a", otherwise="en"), Stub("b", otherwise="af")]
    assert Identifier(SCRIPTS, members).identify([text])[0].language == ABSTAIN
    heard = Identifier(SCRIPTS, members, latin=shipped("en")).identify([text])[0]
    assert (heard.language, heard.basis) == ("en", "majority")


def test_mixed_languages_abstain_unless_two_general_members_agree() -> None:
    text = "yah kaam was finished yesterday"
    torn = Identifier(SCRIPTS, [Stub("a", otherwise="en"), Stub("b")], latin=shipped("mixed"))
    agreed = Identifier(
        SCRIPTS, [Stub("a", otherwise="en"), Stub("b", otherwise="en")], latin=shipped("mixed")
    )
    assert torn.identify([text])[0][::2] == (ABSTAIN, "mixed languages")
    assert agreed.identify([text])[0].language == "en"


@pytest.mark.regression("LID-05")
@pytest.mark.parametrize(
    ("rival", "confidence", "language"),
    [
        ("pa_Latn", 0.95, ABSTAIN),
        ("pa_Latn", 0.8, "hi_Latn"),
        ("mixed", 0.99, "hi_Latn"),
        ("hi_Latn", 0.9, "hi_Latn"),
    ],
)
def test_sure_rival_ties_with_the_closed_set(identifier, rival, confidence, language) -> None:
    rivals = Identifier(
        identifier.scripts, [Stub("a")], romanised=identifier.romanised, latin=shipped(rival, confidence)
    )
    assert rivals.identify(["nepal ki mudra kya hai?"])[0].language == language


def test_short_latin_text_is_not_decided_by_the_latin_classifier() -> None:
    verdict = Identifier(SCRIPTS, [], latin=shipped("hi_Latn", 0.99)).identify(["kya hai"])[0]
    assert (verdict.language, verdict.basis) == (ABSTAIN, "short")
    assert verdict.votes[0].label == "hi_Latn"
