import sys

import pytest

from mmie.errors import InputError
from mmie.language.general import FastText, Langid, general_member
from mmie.language.votes import ABSTAIN

LABELLED = {
    "The currency of India is the Indian rupee": "en",
    "भारत की मुद्रा भारतीय रुपया है और राजधानी दिल्ली": "hi",
    "بھارت کی کرنسی بھارتی روپیہ ہے": "ur",
    "ਭਾਰਤ ਦੀ ਮੁਦਰਾ ਭਾਰਤੀ ਰੁਪਇਆ ਹੈ।": "pa",
    "ভারতের মুদ্রা ভারতীয় রুপি।": "bn",
}


@pytest.fixture(scope="module", params=[FastText, Langid])
def member(request):
    return request.param()


def test_languages_of_atlas_are_recognised_in_their_scripts(member) -> None:
    assert [vote.label for vote in member.vote(list(LABELLED))] == list(LABELLED.values())


@pytest.mark.regression("LID-06")
def test_confidence_is_a_probability_and_nonsense_ranks_below_text(member) -> None:
    known = [vote.confidence for vote in member.vote(list(LABELLED))]
    nonsense = [vote.confidence for vote in member.vote(["qx", "zzv qqj", "1 2", ""])]
    assert all(0.0 <= value <= 1.0 for value in known + nonsense)
    assert min(known) > max(nonsense)


@pytest.mark.regression("LID-05")
def test_below_its_floor_a_member_abstains(member) -> None:
    assert [vote.label for vote in member.vote(["qx", "", "12"])] == [ABSTAIN] * 3


def test_line_breaks_do_not_end_a_text(member) -> None:
    assert member.vote(["The currency\nof India\nis the rupee"])[0].label == "en"


@pytest.mark.regression("LID-07")
@pytest.mark.parametrize(
    ("name", "module"), [("fasttext", "fasttext"), ("langid", "py3langid.langid"), ("cld3", "gcld3")]
)
def test_requested_member_that_is_not_installed_is_an_error(monkeypatch, name, module) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match="pip install"):
        general_member(name)


@pytest.mark.regression("LID-07")
def test_missing_or_broken_model_file_is_an_error(tmp_path) -> None:
    with pytest.raises(InputError, match="no fastText model"):
        FastText(tmp_path / "glotlid.bin")
    (tmp_path / "broken.ftz").write_bytes(b"not a model")
    with pytest.raises(InputError, match="not a fastText model"):
        FastText(tmp_path / "broken.ftz")
    with pytest.raises(InputError, match="not a member"):
        general_member("cld9")


@pytest.mark.regression("LID-07")
def test_description_names_model_and_version(member) -> None:
    description = member.description()
    assert description["member"] == member.name
    assert description.get("sha256") or description.get("version")


def test_batched_langid_votes_as_the_library_does_for_each_text() -> None:
    member = Langid(floor=0.0)
    texts = [*LABELLED, "", "12 !", "ÉCOLE NATIONALE", "a", "x" * 300, "Les enfants jouent", "日本語です"] * 2
    votes = member.vote(texts)
    single = [member._model.classify(text) for text in texts]
    assert [vote.confidence for vote in votes] == pytest.approx([value for _, value in single], abs=1e-5)
    sure = [place for place, (_, confidence) in enumerate(single) if confidence > 0.1]
    assert [votes[place].label for place in sure] == [single[place][0] for place in sure]


def test_own_fasttext_model_wins_over_lid176() -> None:
    from mmie.language.latin import SHIPPED

    member = general_member("fasttext", fasttext_model=SHIPPED)
    assert member.vote(["amader gramer lokera sobai mile ei kajti korechilo"])[0].label == "bn_Latn"
    assert member.description()["model"] == "latin.ftz"
