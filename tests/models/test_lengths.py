"""One length limit, set once, that every stage obeys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mmie.activations.extract import extract_language
from mmie.attacks.relearn import relearn
from mmie.errors import InputError
from mmie.evaluation import likelihood
from mmie.interventions import FitData, build
from mmie.models.generation import decode_greedily
from mmie.models.lengths import resolved_length, set_lengths
from mmie.models.prompts import encode_all
from mmie.training.reference import reference_log_likelihoods

LIMIT = 17


@pytest.fixture
def long_rows(toy_rows: Any) -> Any:
    """Prompts of 25 words and more: longer than the limit, shorter than the model's 32 positions."""

    def make(language: str, first_word: int = 4) -> pd.DataFrame:
        rows = toy_rows(language, first_word=first_word)
        return rows.assign(prompt="w9 " * 22 + rows["prompt"], kind="direct")

    return make


@contextmanager
def observed_widths(model: Any) -> Iterator[list[int]]:
    """Tokens that each forward pass attends to, the cached ones of a generation included."""
    widths: list[int] = []

    def note(_module: Any, _arguments: Any, inputs: dict[str, Any]) -> None:
        mask = inputs.get("attention_mask")
        widths.append(max(inputs["input_ids"].shape[1], 0 if mask is None else mask.shape[-1]))

    handle = model.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield widths
    finally:
        handle.remove()


def _scores(model: Any, tokenizer: Any, rows: pd.DataFrame) -> pd.DataFrame:
    table = reference_log_likelihoods(model, tokenizer, rows)
    return table[["example_id"]].assign(leak=0.0, correct=0.0, answer_probability=0.0)


@pytest.mark.regression("DAT-20")
def test_with_length_17_no_stage_sees_a_wider_tensor(
    toy_model: Any, toy_tokenizer: Any, long_rows: Any, tmp_path: Path
) -> None:
    toy_tokenizer.model_max_length = LIMIT
    forget, retain = long_rows("xx"), long_rows("yy", 31)
    training = {"steps": 2, "learning_rate": 0.01, "forget_batch": 4, "retain_batch": 4}
    arm = build({"kind": "lora", "rank": 2, "layers": "all", "training": training})
    seen: dict[str, list[int]] = {}

    with observed_widths(toy_model) as seen["reference"]:
        reference = reference_log_likelihoods(toy_model, toy_tokenizer, forget)
    with observed_widths(toy_model) as seen["activations"]:
        extract_language(toy_model, toy_tokenizer, forget, tmp_path / "activations")
    with observed_widths(toy_model) as seen["training"]:
        data = FitData(tokenizer=toy_tokenizer, forget=forget, retain=retain, reference=reference)
        arm.fit(toy_model, data, seed=1)
    with observed_widths(toy_model) as seen["likelihood"]:
        likelihood(toy_model, toy_tokenizer, forget, batch_size=4)
    with observed_widths(toy_model) as seen["generation"]:
        decode_greedily(toy_model, toy_tokenizer, forget["prompt"].tolist(), max_new_tokens=5, batch_size=4)
    with observed_widths(toy_model) as seen["attack"]:
        relearn(
            toy_model, toy_tokenizer, arm, forget.head(9), forget.tail(3), steps=[0, 1], seed=1,
            score=lambda model, rows: _scores(model, toy_tokenizer, rows),
        )  # fmt: skip

    assert all(widths and max(widths) <= LIMIT for widths in seen.values()), seen
    assert max(seen["generation"]) > LIMIT - 5  # the room for new tokens is used


def test_the_oldest_prompt_tokens_go_first_and_the_answer_stays(toy_tokenizer: Any) -> None:
    toy_tokenizer.model_max_length = 6
    [item] = encode_all(toy_tokenizer, ["w4 w5 w6 w7"], ["w8 w9"])
    assert toy_tokenizer.convert_ids_to_tokens(item.ids) == ["<s>", "w6", "w7", "w8", "w9", "</s>"]
    assert item.answer_start == 3


def test_an_answer_longer_than_the_limit_loses_its_end(toy_tokenizer: Any) -> None:
    toy_tokenizer.model_max_length = 3
    [item] = encode_all(toy_tokenizer, ["w4 w5"], ["w6 w7 w8 w9"])
    assert toy_tokenizer.convert_ids_to_tokens(item.ids) == ["<s>", "w6", "w7"]
    assert item.answer_start == 1


def test_without_a_begin_token_one_prompt_token_stays_to_predict_from(toy_tokenizer: Any) -> None:
    toy_tokenizer.bos_token = None
    toy_tokenizer.model_max_length = 3
    [item] = encode_all(toy_tokenizer, ["w4 w5"], ["w6 w7 w8"])
    assert toy_tokenizer.convert_ids_to_tokens(item.ids) == ["w4", "w6", "w7"]
    assert item.answer_start == 1


def test_the_limit_is_the_models_unless_a_smaller_one_is_asked_for(toy_model: Any) -> None:
    assert resolved_length(toy_model, None) == 32
    assert resolved_length(toy_model, 17) == 17
    with pytest.raises(InputError, match=r"model\.max_length: 33 .* 32 positions"):
        resolved_length(toy_model, 33)


@pytest.mark.regression("DAT-19")
def test_what_a_limit_cuts_is_counted_by_set_and_refused_above_its_share(
    toy_tokenizer: Any, long_rows: Any
) -> None:
    rows = long_rows("xx").assign(split=["fit"] * 6 + ["test"] * 6)
    toy_tokenizer.model_max_length = LIMIT
    report = set_lengths(toy_tokenizer, rows, max_new_tokens=5, truncated_limit=1.0, language="xx")
    assert set(report) == {"fit", "test", "generation"}
    assert report["fit"]["truncated_share"] == 1.0
    assert (report["test"]["limit"], report["generation"]["limit"]) == (17, 12)
    # 22 words, then 2 to 4 of the prompt and 1 to 3 of the answer, and both special tokens.
    longest = 2 + 22 + 4 + 3
    assert report["fit"]["longest"] == longest
    with pytest.raises(InputError, match=r"xx, fit: 100.0% .* longer than 17 tokens"):
        set_lengths(toy_tokenizer, rows, max_new_tokens=5, truncated_limit=0.5, language="xx")
    assert toy_tokenizer.model_max_length == LIMIT


def test_a_limit_without_room_for_a_prompt_names_both_keys(toy_tokenizer: Any, long_rows: Any) -> None:
    toy_tokenizer.model_max_length = LIMIT
    with pytest.raises(InputError, match=r"model\.max_length.*decoding\.max_new_tokens"):
        set_lengths(toy_tokenizer, long_rows("xx"), max_new_tokens=16, truncated_limit=0, language="xx")
