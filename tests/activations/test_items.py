from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmie.activations.items import TokenItems, sample_items, tokenise
from mmie.errors import InputError

NAMES = [f"f{at}" for at in range(40)]
SPLITS = ["dev" if at % 4 == 0 else "fit" for at in range(40)]


def rows(*pairs: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "example_id": [f"e{at}" for at in range(len(pairs))],
            "prompt": [prompt for prompt, _ in pairs],
            "answer": [answer for _, answer in pairs],
        }
    )


def test_columns_name_item_place_and_length_of_each_kept_token(toy_tokenizer: Any) -> None:
    """<s> w5 w6 w7 </s> and <s> w8 <unk> w9 </s>: ids 5 6 7 and 8 9, <unk> being special."""
    items = tokenise(toy_tokenizer, rows(("w5 w6", "w7"), ("w8 zzz", "w9")))
    found = items.columns(0, 2)
    assert {name: values.tolist() for name, values in found.items()} == {
        "item": [0, 0, 0, 1, 1],
        "position": [1, 2, 3, 1, 3],
        "token": [5, 6, 7, 8, 9],
        "length": [5, 5, 5, 5, 5],
    }
    assert {name: values.tolist() for name, values in items.columns(1, 2).items()} == {
        "item": [1, 1],
        "position": [1, 3],
        "token": [8, 9],
        "length": [5, 5],
    }
    assert items.dropped == {"first": 2, "special": 3}


def test_items_tokenised_in_portions_are_those_tokenised_at_once(
    toy_tokenizer: Any, toy_rows: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tokenise(toy_tokenizer, toy_rows("xx"))
    monkeypatch.setattr("mmie.activations.items.TOGETHER", 5)
    parts = tokenise(toy_tokenizer, toy_rows("xx"))
    for name in ("ids", "kept", "starts", "offsets"):
        assert np.array_equal(getattr(parts, name), getattr(whole, name))


def test_some_items_keep_their_tokens(toy_tokenizer: Any) -> None:
    items = tokenise(toy_tokenizer, rows(("w5 w6", "w7"), ("w8", ""), ("w9 w10", "w11"))).only(
        np.array([1, 2])
    )
    assert items.columns(0, 2)["token"].tolist() == [8, 9, 10, 11]
    assert items.lengths.tolist() == [3, 5]


def test_chunks_are_of_whole_items_and_a_long_item_is_one_of_its_own() -> None:
    starts = np.array([0, 3, 6, 20, 23, 26])
    items = TokenItems(np.zeros(26, np.int32), np.ones(26, bool), starts)
    assert list(items.chunks(7)) == [(0, 2), (2, 3), (3, 5)]


@pytest.mark.parametrize(("prompt", "answer"), [("", ""), ("zzz", "</s>"), ("<s> <pad>", "")])
def test_an_item_of_nothing_but_dropped_tokens_is_named(toy_tokenizer: Any, prompt: str, answer: str) -> None:
    with pytest.raises(InputError, match="example e1: no token left to read"):
        tokenise(toy_tokenizer, rows(("w5", "w6"), (prompt, answer)))


def test_a_single_token_is_read_behind_a_bos_and_refused_as_the_first(toy_tokenizer: Any) -> None:
    assert tokenise(toy_tokenizer, rows(("w5", ""))).columns(0, 1)["token"].tolist() == [5]
    toy_tokenizer.bos_token = None
    with pytest.raises(InputError, match="example e0: no token left to read"):
        tokenise(toy_tokenizer, rows(("w5", "")))


def test_an_empty_answer_leaves_the_prompt(toy_tokenizer: Any) -> None:
    assert tokenise(toy_tokenizer, rows(("w5 w6", ""))).columns(0, 1)["token"].tolist() == [5, 6]


def test_a_sample_has_whole_items_within_the_budget_and_its_splits_in_proportion() -> None:
    """40 items of 10 tokens, a quarter of them dev: 200 tokens are 5 dev and 15 fit items."""
    chosen = sample_items(NAMES, SPLITS, np.full(40, 10), 200)
    assert sorted(set(chosen)) == chosen.tolist()
    assert [SPLITS[at] for at in chosen].count("dev") == 5
    assert [SPLITS[at] for at in chosen].count("fit") == 15


def test_a_corpus_within_the_budget_is_taken_whole_and_one_token_more_is_not() -> None:
    sizes = np.full(40, 10)
    assert sample_items(NAMES, SPLITS, sizes, 400).tolist() == list(range(40))
    assert len(sample_items(NAMES, SPLITS, sizes, 399)) == 38


def test_the_seed_decides_the_sample_and_the_order_of_the_items_does_not() -> None:
    sizes = np.full(40, 10)
    chosen = {NAMES[at] for at in sample_items(NAMES, SPLITS, sizes, 200)}
    backwards = sample_items(NAMES[::-1], SPLITS[::-1], sizes, 200)
    assert {NAMES[::-1][at] for at in backwards} == chosen
    assert {NAMES[at] for at in sample_items(NAMES, SPLITS, sizes, 200, seed=1)} != chosen


def test_languages_with_longer_texts_keep_some_of_the_same_items() -> None:
    short = {NAMES[at] for at in sample_items(NAMES, SPLITS, np.full(40, 10), 200)}
    long = {NAMES[at] for at in sample_items(NAMES, SPLITS, np.full(40, 16), 200)}
    assert long < short
    assert len(long) >= 10


def test_a_budget_without_an_item_of_a_split_is_refused() -> None:
    with pytest.raises(InputError, match=r"activations\.max_tokens: 30 leave 8 tokens for split 'dev'"):
        sample_items(NAMES, SPLITS, np.full(40, 10), 30)
