"""The instruction must be where someone who typed it into the prompt would have put it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from mmie.errors import InputError
from mmie.interventions import FitData, build
from mmie.models.generation import decode_greedily
from mmie.models.hooks import capture, disabled
from mmie.models.prefix import prefixed

WORDS = "w9 w8 w7"


def typed(prompts: list[str]) -> list[str]:
    return [f"{WORDS} {prompt}" for prompt in prompts]


def test_generation_is_that_of_prompts_with_the_instruction_typed_in(
    talkative: Any, toy_data: FitData, fitted: Any
) -> None:
    prompts = ["w5 w6 w7 w8", "w20", "w31 w32"]
    expected = decode_greedily(talkative, toy_data.tokenizer, typed(prompts), max_new_tokens=5, batch_size=3)
    plain = decode_greedily(talkative, toy_data.tokenizer, prompts, max_new_tokens=5, batch_size=3)
    with fitted("prompt_only").applied(talkative) as changed:
        found = decode_greedily(changed, toy_data.tokenizer, prompts, max_new_tokens=5, batch_size=3)
    assert found == expected
    assert found != plain


@pytest.mark.regression("SAE-13")
def test_likelihoods_are_those_of_prompts_with_the_instruction_typed_in(
    toy_model: Any, toy_data: FitData, fitted: Any
) -> None:
    from mmie.training.reference import reference_log_likelihoods

    rows = toy_data.retain
    assert rows is not None
    longer = rows.assign(prompt=typed(rows["prompt"].tolist()))
    expected = reference_log_likelihoods(toy_model, toy_data.tokenizer, longer)["nll_sum"]
    plain = reference_log_likelihoods(toy_model, toy_data.tokenizer, rows)["nll_sum"]
    with fitted("prompt_only").applied(toy_model) as changed:
        found = reference_log_likelihoods(changed, toy_data.tokenizer, rows)["nll_sum"]
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-4)
    assert found.tolist() != pytest.approx(plain.tolist(), abs=1e-2)


def test_the_caller_gets_logits_of_the_positions_it_sent(toy_model: Any) -> None:
    ids = torch.tensor([[0, 0, 1, 5, 6], [1, 7, 8, 9, 10]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    longer = torch.tensor([[0, 0, 1, 20, 21, 5, 6], [1, 20, 21, 7, 8, 9, 10]])
    longer_mask = (longer != 0).long()
    positions = (longer_mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = toy_model(input_ids=longer, attention_mask=longer_mask, position_ids=positions).logits
        with prefixed(toy_model, [20, 21], start_id=1):
            found = toy_model(input_ids=ids, attention_mask=mask).logits
            last = toy_model(input_ids=ids, attention_mask=mask, logits_to_keep=2).logits
    assert found.shape[:2] == (2, 5)
    assert torch.allclose(found[0, 2:], expected[0, [2, 5, 6]], atol=1e-5)
    assert torch.allclose(found[1], expected[1, [0, 3, 4, 5, 6]], atol=1e-5)
    assert torch.equal(last, found[:, -2:])


def test_without_a_start_token_the_instruction_stands_first(toy_model: Any) -> None:
    with torch.no_grad(), capture(toy_model, [0]) as plain:
        toy_model(input_ids=torch.tensor([[20, 21, 5, 6]]))
    with torch.no_grad(), prefixed(toy_model, [20, 21], start_id=None), capture(toy_model, [0]) as seen:
        toy_model(input_ids=torch.tensor([[5, 6]]))
    assert torch.allclose(seen.hidden[0], plain.hidden[0], atol=1e-6)


def test_the_reference_pass_has_no_instruction(toy_model: Any, fitted: Any, logits: Any) -> None:
    before = logits(toy_model)
    with fitted("prompt_only").applied(toy_model) as changed:
        with disabled(changed):
            assert torch.equal(logits(changed), before)
        assert not torch.equal(logits(changed), before)


def test_a_cache_that_began_elsewhere_is_refused(toy_model: Any, fitted: Any) -> None:
    with torch.no_grad():
        cache = toy_model(input_ids=torch.tensor([[1, 5]]), use_cache=True).past_key_values
    with (
        torch.no_grad(),
        fitted("prompt_only").applied(toy_model) as changed,
        pytest.raises(InputError, match="the cache began without it"),
    ):
        changed(
            input_ids=torch.tensor([[6]]),
            attention_mask=torch.ones(1, 3, dtype=torch.long),
            position_ids=torch.tensor([[2]]),
            past_key_values=cache,
            use_cache=True,
        )


@pytest.fixture
def short_gpt2() -> Any:
    """Ten learned positions; an eleventh is an index error."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=10, bos_token_id=1)
    return GPT2LMHeadModel(config).eval()


@pytest.mark.regression("DAT-20")
def test_the_instruction_counts_against_the_positions_of_the_model(
    short_gpt2: Any, toy_tokenizer: Any
) -> None:
    from mmie.evaluation.forced import likelihood

    rows = pd.DataFrame({"prompt": ["w4 w5 w6 w7 w8 w9 w10"], "answer": ["w11 w12"]})
    arm = build({"kind": "prompt_only", "instruction": WORDS})
    arm.fit(short_gpt2, FitData(tokenizer=toy_tokenizer), seed=0)

    def score(limit: int) -> Any:
        toy_tokenizer.model_max_length = limit
        with arm.applied(short_gpt2) as changed:
            return likelihood(changed, toy_tokenizer, rows, batch_size=1)["nll_sum"]

    # <s>, seven words, two of the answer, </s>: cut to ten, then three more.
    with pytest.raises(
        InputError, match=r"text of 10 tokens.*3 are more than the 10 pos.*_length to 7 or less"
    ):
        score(10)
    # At the limit that the message names the prompt loses its four oldest words, and everything fits.
    cut, toy_tokenizer.model_max_length = score(7), 10
    typed_in = rows.assign(prompt=typed(["w8 w9 w10"]))
    expected = likelihood(short_gpt2, toy_tokenizer, typed_in, batch_size=1)["nll_sum"]
    assert cut == pytest.approx(expected, abs=1e-4)


@pytest.mark.regression("DAT-20")
def test_a_generation_that_outgrows_the_positions_is_refused_and_padding_is_not_counted(
    short_gpt2: Any, toy_tokenizer: Any
) -> None:
    arm = build({"kind": "prompt_only", "instruction": WORDS})
    arm.fit(short_gpt2, FitData(tokenizer=toy_tokenizer), seed=0)
    short_gpt2.generation_config.eos_token_id = None
    toy_tokenizer.model_max_length = 10
    with arm.applied(short_gpt2) as changed:
        # <s> and two words, three of the instruction, four new ones read back: ten.
        decode_greedily(changed, toy_tokenizer, ["w4 w5"], max_new_tokens=5, batch_size=1)
        with pytest.raises(InputError, match="text of 8 tokens and an instruction of 3"):
            decode_greedily(changed, toy_tokenizer, ["w4 w5 w6 w7"], max_new_tokens=6, batch_size=1)
        padded = torch.tensor([[0, 0, 0, 0, 0, 1, 5, 6]])
        with torch.no_grad():
            wide = changed(input_ids=padded, attention_mask=(padded != 0).long()).logits
            tight = changed(input_ids=padded[:, 5:]).logits
    assert torch.allclose(wide[:, 5:], tight, atol=1e-5)


def test_texts_without_room_are_refused_at_the_fit(short_gpt2: Any, toy_tokenizer: Any) -> None:
    rows = pd.DataFrame({"prompt": ["w4 w5 w6 w7"], "answer": ["w11 w12"]})
    arm = build({"kind": "prompt_only", "instruction": WORDS})
    with pytest.raises(InputError, match="text of 8 tokens and an instruction of 3"):
        arm.fit(short_gpt2, FitData(tokenizer=toy_tokenizer, forget=rows), seed=0)


def test_an_empty_instruction_is_refused_and_unknown_words_are_counted(toy_model: Any, fitted: Any) -> None:
    with pytest.raises(InputError, match="instruction is empty"):
        build({"kind": "prompt_only", "instruction": "  "})
    assert fitted("prompt_only").fitted.facts["unknown_tokens"] == 0
    assert fitted("prompt_only", instruction="w9 unheard").fitted.facts["unknown_tokens"] == 1
