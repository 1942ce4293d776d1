import pytest
import torch

from mmie.models.generation import decode_greedily, generate_greedy

PROMPTS = ["w4 w5 w6 w7 w8", "w9", "", "w10 w11", "w12 w13 w14", "w9"]


def slow_greedy(model, prompt_ids: list[int], limit: int) -> list[int]:
    """One prompt, no cache, no padding, no position ids: the definition."""
    ids = list(prompt_ids)
    new: list[int] = []
    for _ in range(limit):
        with torch.no_grad():
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if token == 2:
            break
        ids.append(token)
        new.append(token)
    return new


@pytest.mark.regression("EVA-05")
@pytest.mark.parametrize("batch_size", [1, 2, 6])
def test_batched_decoding_equals_the_definition(toy_model, toy_tokenizer, batch_size) -> None:
    generated = decode_greedily(toy_model, toy_tokenizer, PROMPTS, max_new_tokens=6, batch_size=batch_size)
    for prompt, text, count in zip(PROMPTS, generated.texts, generated.n_tokens, strict=True):
        ids = [1, *(int(word[1:]) for word in prompt.split())]
        expected = slow_greedy(toy_model, ids, 6)
        assert text == toy_tokenizer.decode(expected, skip_special_tokens=True)
        assert count == len(expected)


def test_rows_that_have_ended_leave_the_batch_and_change_no_other(toy_model, toy_tokenizer) -> None:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(64, 16, generator=generator)
    weight[2] *= 2
    toy_model.lm_head.weight = torch.nn.Parameter(weight)
    prompts = [
        " ".join(f"w{4 + (3 * row + place) % 60}" for place in range(1 + row % 4)) for row in range(16)
    ]
    rows = []
    hook = toy_model.model.register_forward_pre_hook(
        lambda module, inputs, given: rows.append(given["input_ids"].shape[0]), with_kwargs=True
    )
    generated = decode_greedily(toy_model, toy_tokenizer, prompts, max_new_tokens=12, batch_size=16)
    hook.remove()
    expected = [
        slow_greedy(toy_model, [1, *(int(word[1:]) for word in prompt.split())], 12) for prompt in prompts
    ]
    assert generated.texts == [toy_tokenizer.decode(ids, skip_special_tokens=True) for ids in expected]
    assert generated.n_tokens == [len(ids) for ids in expected]
    assert generated.truncated == [len(ids) == 12 for ids in expected]
    assert len(set(generated.n_tokens)) > 3
    assert rows == sorted(rows, reverse=True) and rows[-1] < rows[0] == 16


def biased_to(model, token: int):
    """Make every prediction `token` by a hook on the output layer."""
    return model.lm_head.register_forward_hook(
        lambda module, inputs, output: output.index_fill(-1, torch.tensor([token]), 1e6)
    )


def test_end_token_stops_a_text_and_is_not_part_of_it(toy_model, toy_tokenizer) -> None:
    hook = biased_to(toy_model, 2)
    generated = decode_greedily(toy_model, toy_tokenizer, PROMPTS, max_new_tokens=5, batch_size=4)
    hook.remove()
    assert generated.texts == [""] * len(PROMPTS)
    assert generated.truncated == [False] * len(PROMPTS)
    assert generated.n_tokens == [0] * len(PROMPTS)


def test_hooks_are_in_force_and_the_length_limit_is_marked(toy_model, toy_tokenizer) -> None:
    hook = biased_to(toy_model, 20)
    generated = decode_greedily(toy_model, toy_tokenizer, ["w4", "w5"], max_new_tokens=3, batch_size=2)
    hook.remove()
    assert generated.texts == ["w20 w20 w20"] * 2
    assert generated.truncated == [True, True]


def test_end_token_as_the_last_allowed_token_is_no_truncation(toy_model, toy_tokenizer) -> None:
    steps = iter([20, 2])
    hook = toy_model.lm_head.register_forward_hook(
        lambda module, inputs, output: output.index_fill(-1, torch.tensor([next(steps)]), 1e6)
    )
    generated = decode_greedily(toy_model, toy_tokenizer, ["w4"], max_new_tokens=2, batch_size=1)
    hook.remove()
    assert (generated.texts, generated.truncated) == (["w20"], [False])


def test_no_prompts_give_no_texts(toy_model, toy_tokenizer) -> None:
    assert generate_greedy(toy_model, toy_tokenizer, [], max_new_tokens=3, batch_size=2) == []


def test_adapters_of_peft_are_in_force(toy_model, toy_tokenizer) -> None:
    from peft import LoraConfig, get_peft_model

    plain = generate_greedy(toy_model, toy_tokenizer, PROMPTS, max_new_tokens=4, batch_size=3)
    wrapped = get_peft_model(
        toy_model, LoraConfig(target_modules=["q_proj"], init_lora_weights=True, task_type="CAUSAL_LM")
    ).eval()
    assert generate_greedy(wrapped, toy_tokenizer, PROMPTS, max_new_tokens=4, batch_size=3) == plain
