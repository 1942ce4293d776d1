import random

import pytest

from mmie.language.scripts import script_share
from mmie.language.typed_spelling import UrduSpeller, spell_bengali, spell_hindi, spell_punjabi, vary

HINDI_WORDS = {"istemal": 5, "karna": 9, "hai": 20, "mein": 12, "ki": 30, "ijazat": 2}


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("ਤੁਹਾਡੇ ਖਾਤੇ ਵਿੱਚ ਰਹੇਗਾ", "tuhade khate vich rahega"),
        ("ਇੱਕ", "ik"),
        ("ਡਾਟਾ", "data"),
    ],
)
def test_punjabi_is_spelled_without_scholarly_double_vowels(text, typed) -> None:
    assert spell_punjabi(text) == typed


@pytest.mark.parametrize(
    ("text", "typed"),
    [("এবং", "ebong"), ("করেন", "koren"), ("আপনার", "apnar"), ("জন্য", "jonyo"), ("আমি তোমাকে", "ami tomake")],
)
def test_inherent_vowel_of_bengali_is_o_and_unspoken_in_weak_places(text, typed) -> None:
    assert spell_bengali(text) == typed


@pytest.mark.parametrize(
    ("text", "typed"),
    [("استعمال کرنا", "istemal karna"), ("کی", "ki"), ("اجازت ہے", "ijazat hai"), ("مطلب", "matlab")],
)
def test_urdu_gets_short_vowels_from_hindi_or_from_the_usual_pattern(text, typed) -> None:
    assert UrduSpeller(HINDI_WORDS)(text) == typed


def test_hindi_is_spelled_as_everywhere_in_the_project() -> None:
    from mmie.data.romanise import romanise

    assert spell_hindi("भारत की मुद्रा") == romanise("भारत की मुद्रा", "hi")


def test_spellings_vary_but_stay_latin_words_in_place() -> None:
    text = "bharat ki mudra kya hai aur wahan kaun si bhasha boli jati hai"
    variants = {vary(text, random.Random(seed)) for seed in range(30)}
    assert len(variants) > 20
    assert all(script_share(variant, "Latn") == 1.0 for variant in variants)
    assert all(len(variant.split()) == len(text.split()) for variant in variants)
    assert vary(text, random.Random(1)) == vary(text, random.Random(1))
    assert vary(text, random.Random(1), strength=0.0) == text
