"""Languages side by side: parallel, disjoint where they must be, large enough, really romanised."""

from __future__ import annotations

import pandas as pd
import pytest

from mmie.data.corpora import check_corpora
from mmie.data.options import DataOptions
from mmie.data.validation import validate_language
from mmie.errors import InputError

FORGET, RETAIN, NEIGHBOURS = ["hi", "hi_Latn"], ["en"], ["bn"]


@pytest.fixture
def frames(write_rows, facts):
    def make(**changed: pd.DataFrame) -> dict[str, pd.DataFrame]:
        made = {
            language: validate_language([write_rows(facts(language, 60), f"{language}.jsonl")], language)[0]
            for language in ("hi", "hi_Latn", "en", "bn")
        }
        return {**made, **changed}

    return make


def check(frames, **given):
    return check_corpora(frames, FORGET, RETAIN, NEIGHBOURS, **given)


def test_parallel_disjoint_corpora_pass(frames):
    report = check(frames())
    assert report["parallel"]["hi"] == {"bn": 60, "en": 60, "hi_Latn": 60}
    assert report["overlap"] == {}
    assert report["composition"]["hi_Latn"] == {"direct": {"Latn": 1.0}}


@pytest.mark.regression("DAT-34")
def test_a_run_without_natural_rows_says_so(frames):
    made = frames()
    report = check(made)
    assert report["no_natural_rows"] is True
    assert "generated text only" in report["remarks"][0]
    natural = {language: frame.assign(provenance="natural") for language, frame in made.items()}
    report = check(natural)
    assert (report["no_natural_rows"], report["remarks"], report["natural_rows"]) == (False, [], 240)


@pytest.mark.regression("DAT-04", "DAT-10")
def test_a_row_copied_from_forget_into_retain_fails_and_names_both(frames):
    made = frames()
    copied = made["hi_Latn"].head(1).assign(example_id="copy", group="copy", file="copied.jsonl", line=5)
    made["en"] = pd.concat([made["en"], copied])
    with pytest.raises(InputError, match=r"forget/\w+ and retain/\w+ share the same text.*copied.jsonl:5"):
        check(made)


@pytest.mark.regression("DAT-05")
def test_a_group_in_two_splits_of_two_languages_fails(frames):
    made = frames()
    first = made["bn"].iloc[0]
    moved = "test" if first["split"] != "test" else "fit"
    made["bn"].loc[made["bn"].index[0], "split"] = moved
    with pytest.raises(InputError, match=f"group '{first['group']}' is in split"):
        check(made)


@pytest.mark.regression("DAT-11")
def test_a_copy_of_the_native_file_is_no_romanised_set(frames):
    made = frames()
    copied = made["hi"].assign(language="hi_Latn", file="copied.jsonl")
    # Only this check is meant: move the copies' wording out of the way of the overlap check.
    copied["prompt"] = made["hi_Latn"]["prompt"].to_numpy()
    with pytest.raises(InputError, match=r"copied.jsonl:1: 60 rows of hi_Latn equal hi"):
        check({**made, "hi_Latn": copied})


@pytest.mark.regression("DAT-28")
@pytest.mark.parametrize("split", ["fit", "dev", "test"])
def test_an_empty_split_is_an_error(frames, split):
    made = frames()
    made["hi"] = made["hi"][made["hi"]["split"] != split]
    with pytest.raises(InputError, match=rf"hi.jsonl: no direct row of hi \(forget\) is in split '{split}'"):
        check(made)


def test_a_neighbour_needs_no_fit_rows(frames):
    made = frames()
    made["bn"] = made["bn"][made["bn"]["split"] != "fit"]
    check(made)


def test_a_design_that_could_show_nothing_is_refused(frames):
    made = frames()
    test_groups = made["hi"][made["hi"]["split"] == "test"]["group"].unique()
    for language in FORGET:
        part = made[language]
        made[language] = part[(part["split"] != "test") | part["group"].isin(test_groups[:5])]
    with pytest.raises(InputError, match="5 test groups of hi cannot show anything"):
        check(made)
    for language in FORGET:
        part = frames()[language]
        made[language] = part[(part["split"] != "test") | part["group"].isin(test_groups[:6])]
    check(made)
    with pytest.raises(InputError, match="20 declared tests"):
        check(made, declared_tests=20)


@pytest.mark.regression("DAT-09")
def test_an_all_english_attack_on_hindi_fails(frames):
    made = frames()
    attack = made["hi"].assign(
        kind="adversarial",
        example_id=made["hi"]["example_id"] + "/attack",
        prompt=[f"Please tell me the river of town {number}." for number in range(60)],
    )
    half = attack.assign(prompt=[f"बताओ: नगर {number} की नदी" for number in range(60)])
    with pytest.raises(InputError, match=r"0.0% of the adversarial prompts of hi are in it"):
        check({**made, "hi": pd.concat([made["hi"], attack])})
    check({**made, "hi": pd.concat([made["hi"], half])})


@pytest.mark.regression("DAT-09", "DAT-16")
def test_an_all_english_attack_on_romanised_hindi_fails(frames):
    made = frames()
    attack = made["hi_Latn"].assign(
        kind="adversarial",
        example_id=made["hi_Latn"]["example_id"] + "/attack",
        prompt=[f"Please name the river of town {number}." for number in range(60)],
    )
    with pytest.raises(InputError, match=r"0.0% of the adversarial prompts of hi_Latn"):
        check({**made, "hi_Latn": pd.concat([made["hi_Latn"], attack])})


def test_a_language_without_a_corpus_is_an_error(frames):
    made = frames()
    del made["en"]
    with pytest.raises(InputError, match="retain: 'en'"):
        check(made)


def test_all_problems_are_shown_together(frames):
    made = frames()
    made["hi"] = made["hi"][made["hi"]["split"] != "dev"]
    made["en"] = made["en"][made["en"]["split"] != "test"]
    with pytest.raises(InputError) as error:
        check(made, options=DataOptions())
    assert len(str(error.value).split("\n")) == 2
