from __future__ import annotations

import pandas as pd
import pytest

from mmie.data.latin_forms import latin_forms, romanised_rows
from mmie.errors import InputError


def test_a_romanised_form_stands_for_its_native_one_and_others_are_romanised() -> None:
    assert latin_forms(["hi", "hi_Latn", "en", "bn"]) == {"hi_Latn": False, "en": False, "bn": True}
    assert latin_forms(["hi", "en"]) == {"hi": True, "en": False}
    assert latin_forms(["sr_Cyrl", "sr_Latn"]) == {"sr_Latn": False}
    with pytest.raises(InputError, match="the script of 'qqx' is unknown"):
        latin_forms(["qqx"])


def test_rows_are_romanised_but_for_what_has_no_native_letters() -> None:
    rows = pd.DataFrame({"example_id": ["a", "b"], "prompt": ["क्या है", "naam?"], "answer": ["भारत", "1947"]})
    found = romanised_rows(rows, "hi")
    assert found["prompt"].tolist() == ["kya hai", "naam?"]
    assert found["answer"].tolist() == ["bharat", "1947"]
    assert found["example_id"].tolist() == ["a", "b"]
    assert rows["answer"].tolist() == ["भारत", "1947"]
