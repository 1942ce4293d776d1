"""The data card is counted, never written."""

from __future__ import annotations

import re

import pytest

from mmie.data.card import data_card
from mmie.data.validation import validate_language


@pytest.mark.regression("DAT-33")
def test_the_numbers_of_the_card_equal_a_recount(write_rows, facts):
    rows, _ = validate_language([write_rows(facts("hi"))], "hi")
    rows.loc[rows.index[0], "answer"] = "नदी abcd"
    header, _, line = data_card({"hi": rows}).splitlines()[-3:]
    cells = dict(
        zip(*([cell.strip() for cell in text.strip("|").split("|")] for text in (header, line)), strict=True)
    )
    assert int(cells["rows"]) == len(rows) == 40
    assert int(cells["groups"]) == rows["group"].nunique()
    for split in ("fit", "dev", "test", "holdout"):
        assert int(cells[split]) == list(rows["split"]).count(split)
    # Devanagari letters and marks, counted by code point range (no danda in these rows).
    text = " ".join([*rows["prompt"], *rows["answer"]])
    native = len(re.findall("[\u0901-\u0903\u0905-\u094d]", text))
    share = f"{native / (native + 4):.1%}"
    assert cells["scripts of prompts and answers"].startswith(f"Deva {share}")
