from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd
import pytest

from mmie.attacks.rewrite import VARIANTS, Material, mean_over_variants, rewrite, rewrite_rows
from mmie.attacks.rewrite_texts import TEXTS, text_for
from mmie.data.comparison import comparison_key
from mmie.data.references import accepted_answers
from mmie.errors import InputError
from mmie.interventions import assert_restored
from mmie.language.scripts import script_counts
from mmie.metrics.text import contains_words

# Place, answer in English, Hindi and romanised Hindi; places 4 and 5 share the answer of place 0.
FACTS = (
    ("Kano", "Nigeria", "कानो", "नाइजीरिया", "kano", "naijiriya"),
    ("Lyon", "France", "लियोन", "फ़्रांस", "liyon", "frans"),
    ("Osaka", "Japan", "ओसाका", "जापान", "osaka", "japan"),
    ("Quito", "Ecuador", "क्विटो", "इक्वाडोर", "kvito", "ikvador"),
    ("Lagos", "Nigeria", "लागोस", "नाइजीरिया", "lagos", "naijiriya"),
    ("Abuja", "Nigeria", "अबूजा", "नाइजीरिया", "abuja", "naijiriya"),
)
WORDINGS = {
    "en": ("Which country is {} in?", "Country where {} is located:"),
    "hi": ("{} किस देश में है?", "जिस देश में {} है, वह है"),
    "hi_Latn": ("{} kis desh mein hai?", "jis desh mein {} hai, vah hai"),
}
SCRIPTS = {"en": "Latn", "hi": "Deva", "hi_Latn": "Latn"}


@pytest.fixture
def corpus() -> dict[str, pd.DataFrame]:
    """Fact 0 is TEST; the others are FIT."""
    tables = {}
    for column, (language, wordings) in enumerate(WORDINGS.items()):
        tables[language] = pd.DataFrame(
            {
                "example_id": f"city/{number}/{template}",
                "fact_id": f"city/{number}",
                "group": f"place{number}",
                "template_id": template,
                "template_split": "held_out" if template == "s1" else "trained",
                "relation": "city",
                "kind": "direct",
                "language": language,
                "script": SCRIPTS[language],
                "split": "fit" if number else "test",
                "prompt": wording.format(fact[2 * column]),
                "answer": fact[2 * column + 1],
                "aliases": "[]",
            }
            for number, fact in enumerate(FACTS)
            for template, wording in zip(("q1", "s1"), wordings, strict=True)
        )
    return tables


@pytest.fixture
def material(corpus: Any, toy_tokenizer: Any) -> Material:
    return Material(
        corpus, ["en"], accepted_answers(corpus.values()), toy_tokenizer, examples=2, padding_tokens=12
    )


@pytest.fixture
def items(corpus: Any) -> pd.DataFrame:
    every = pd.concat([corpus["hi"], corpus["hi_Latn"]])
    return every[every["split"] == "test"].reset_index(drop=True)


@pytest.mark.regression("EVA-29")
@pytest.mark.parametrize("name", VARIANTS)
def test_every_rewrite_changes_the_surface_keeps_the_item_and_is_scored(
    name: str, items: pd.DataFrame, material: Material, toy_model: Any, arm: Any, score: Any
) -> None:
    asked = rewrite_rows(items, material, [name])
    assert asked["example_id"].tolist() == items["example_id"].tolist()
    assert asked[["group", "language", "answer"]].equals(items[["group", "language", "answer"]])
    for old, new in zip(items["prompt"], asked["prompt"], strict=True):
        assert comparison_key(old) != comparison_key(new)
    variants = [name] if name != "translation" else [name, "prefix"]
    with assert_restored(toy_model):
        means, every = rewrite(
            toy_model, arm("none"), items.assign(answer="w5 w6"), material, variants=variants, score=score
        )
    assert every[every["variant"] == name]["answer_probability"].between(0, 1, inclusive="right").all()
    assert len(means) == len(items)


@pytest.mark.regression("EVA-29")
def test_the_texts_are_one_row_an_attack_language_and_script() -> None:
    assert max(Counter((row.attack, row.language, row.script) for row in TEXTS).values()) == 1
    mixtures = {"Jpan": {"Hira", "Hani", "Kana"}, "Kore": {"Hang"}, "Hans": {"Hani"}}
    for row in TEXTS:
        assert set(script_counts(row.text)) <= mixtures.get(row.script, {row.script}), row
    for attack in ("prefix", "code_mixed"):
        assert {"en", "hi", "hi_Latn", "ur", "pa", "bn"} <= {
            row.language for row in TEXTS if row.attack == attack
        }
    assert text_for("prefix", "sw").language == "en"


def prompts(items: pd.DataFrame, material: Material, name: str) -> dict[tuple[str, str], str]:
    asked = rewrite_rows(items, material, [name])
    return dict(zip(zip(asked["language"], asked["template_id"], strict=True), asked["prompt"], strict=True))


def test_prompts_are_those_of_the_same_fact(items: pd.DataFrame, material: Material) -> None:
    paraphrases = prompts(items, material, "paraphrase")
    assert paraphrases["hi", "q1"] == "जिस देश में कानो है, वह है"
    assert paraphrases["hi_Latn", "s1"] == "kano kis desh mein hai?"
    assert prompts(items, material, "translation")["hi", "s1"] == "Country where Kano is located:"
    scripts = prompts(items, material, "other_script")
    assert scripts["hi", "q1"] == "kano kis desh mein hai?"
    assert scripts["hi_Latn", "q1"] == "कानो किस देश में है?"
    assert prompts(items, material, "prefix")["hi", "q1"] == "कानो किस देश में है? उत्तर है"
    mixed = prompts(items, material, "code_mixed")["hi", "q1"]
    assert mixed == "Please answer this question: कानो किस देश में है?"


def test_a_romanised_prompt_holds_no_native_letter(items: pd.DataFrame, material: Material) -> None:
    material.corpus["hi_Latn"]["prompt"] += " कानो"
    with pytest.raises(InputError, match="no other_script"):
        rewrite_rows(items[items["language"] == "hi"], material, ["other_script"])


@pytest.mark.parametrize("name", ["few_shot", "padding"])
def test_no_context_holds_the_answer(name: str, items: pd.DataFrame, material: Material) -> None:
    for (language, _), prompt in prompts(items, material, name).items():
        lines = prompt.split("\n")
        assert len(lines) >= 3 and lines[-1] in items["prompt"].tolist()
        for answer in ("Nigeria", "नाइजीरिया", "naijiriya"):
            assert not contains_words("\n".join(lines[:-1]), answer), (language, prompt)


def test_contexts_come_from_the_right_language(items: pd.DataFrame, material: Material) -> None:
    shots = prompts(items, material, "few_shot")["hi", "q1"].split("\n")
    assert len(shots) == 3 and all("देश" in line for line in shots)
    padded = prompts(items, material, "padding")["hi", "q1"].split("\n")
    assert all(line.startswith(("Which country", "Country where")) for line in padded[:-1])
    words = sum(len(line.split()) for line in padded[:-1])
    assert 12 <= words < 12 + 7, "stops at the first line that reaches the length"


def test_a_context_depends_on_the_item_alone(items: pd.DataFrame, material: Material) -> None:
    whole = prompts(items, material, "few_shot")
    assert prompts(items.tail(1), material, "few_shot").items() <= whole.items()


def test_translation_is_stored_and_not_averaged(items: pd.DataFrame) -> None:
    one = items.head(1)
    table = pd.DataFrame(
        {
            "example_id": one["example_id"].iloc[0],
            "language": "hi",
            "variant": ["prefix", "padding", "translation"],
            "leak": [1.0, 0.0, 1.0],
            "correct": [1.0, 0.0, 0.0],
            "answer_probability": [0.4, 0.2, 0.9],
        }
    )
    means = mean_over_variants(table, one)
    assert means[["step", "variant", "leak", "correct"]].iloc[0].tolist() == [0, "mean", 0.5, 0.5]
    assert means["answer_probability"].iloc[0] == pytest.approx(0.3)
    with pytest.raises(InputError, match="has no rewrite"):
        mean_over_variants(table[table["variant"] == "translation"], one)


def test_unknown_and_impossible_variants_are_refused(items: pd.DataFrame, material: Material) -> None:
    with pytest.raises(InputError, match="'paraphrased' is unknown"):
        rewrite_rows(items, material, ["paraphrased"])
    only = items[(items["language"] == "hi") & (items["template_id"] == "q1")]
    lonely = Material(
        {"hi": only, "en": material.corpus["en"]}, ["en"], material.references, material.tokenizer,
        padding_tokens=12,
    )  # fmt: skip
    with pytest.raises(InputError, match="the data have no paraphrase"):
        rewrite_rows(only, lonely, ["paraphrase"])
    possible = set(rewrite_rows(only, lonely)["variant"])
    assert possible == {"translation", "code_mixed", "prefix", "padding"}, "all that the data allow"
