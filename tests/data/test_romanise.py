"""Romanised Hindi reads like what people type, and nothing else ever passes for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import mmie.data.romanise as romanise_module
from mmie.data.romanise import SCHEME, agreement, check_romanised, romanise
from mmie.errors import InputError

HAND_LIST = json.loads(
    Path(romanise_module.__file__).with_name("romanise_words.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize(
    ("native", "typed"),
    [
        ("भारत", "bharat"),
        ("राजभाषा", "rajbhasha"),
        ("मुद्रा", "mudra"),
        ("रुपया", "rupaya"),
        ("दिल्ली", "dilli"),
        ("हिन्दी", "hindi"),
        ("क्या है", "kya hai"),
        ("में", "mein"),
        ("कौन", "kaun"),
        ("अच्छा", "achha"),
        ("ज्ञान", "gyan"),
        ("फ़्रांस", "frans"),
        ("थाईलैंड", "thailand"),
    ],
)
def test_hindi_is_spelled_as_people_type_it(native: str, typed: str) -> None:
    assert romanise(native, "hi") == typed


@pytest.mark.regression("DAT-13")
def test_agreement_with_the_hand_list_is_the_stored_one() -> None:
    words = HAND_LIST["words"]
    spelled = {word: romanise(word, HAND_LIST["language"]) for word in words}
    assert HAND_LIST["scheme"] == SCHEME
    assert len(words) >= 20
    assert round(agreement(words, spelled), 4) == HAND_LIST["agreement"]
    assert HAND_LIST["agreement"] >= 0.9


@pytest.mark.regression("DAT-13")
def test_identity_agrees_with_no_word_of_the_hand_list() -> None:
    words = HAND_LIST["words"]
    assert agreement(words, {word: word for word in words}) == 0


def test_agreement_of_an_empty_list_is_an_error() -> None:
    with pytest.raises(InputError, match="empty"):
        agreement({}, {})


@pytest.mark.regression("DAT-12")
def test_a_missing_library_raises_instead_of_returning_native_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uroman", None)
    romanise_module._uroman.cache_clear()
    romanise_module._spell_hindi.cache_clear()
    try:
        for language in ("hi", "bn"):
            with pytest.raises(InputError, match="uroman is missing"):
                romanise("भारत", language)
    finally:
        romanise_module._uroman.cache_clear()


@pytest.mark.regression("DAT-12")
def test_a_library_that_does_not_convert_its_probe_word_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    class Idle:
        def romanize_string(self, text: str, **_: object) -> str:
            return text

    module = type(sys)("uroman")
    module.Uroman = Idle  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "uroman", module)
    romanise_module._uroman.cache_clear()
    romanise_module._spell_hindi.cache_clear()
    try:
        with pytest.raises(InputError, match="probe"):
            romanise("भारत", "hi")
    finally:
        romanise_module._uroman.cache_clear()


@pytest.mark.regression("DAT-11")
def test_native_letters_and_unchanged_text_are_refused() -> None:
    with pytest.raises(InputError, match="are left"):
        check_romanised("भारत देश", "bharat देश")
    with pytest.raises(InputError, match="equals its source"):
        check_romanised("bharat", "bharat")


def test_danda_becomes_a_full_stop_and_latin_parts_stay() -> None:
    assert romanise("यह India है।", "hi") == "yah India hai."


def test_composed_and_decomposed_nukta_are_spelled_alike() -> None:
    assert romanise("ज़", "hi") == romanise("ज\u093c", "hi") == "za"


@pytest.mark.parametrize(("text", "language"), [("বাংলা", "bn"), ("ਪੰਜਾਬੀ", "pa"), ("اردو", "ur")])
def test_other_scripts_are_spelled_in_plain_latin_letters(text: str, language: str) -> None:
    spelled = romanise(text, language)
    assert spelled.isascii() and spelled.islower()
