from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from mmie.errors import InputError
from mmie.models.hooks import Pass, capture, disabled, edit, hook_count, kept_tokens, unwrap


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=32,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def tuple_model() -> PreTrainedModel:
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    return BloomForCausalLM(
        BloomConfig(vocab_size=40, hidden_size=16, n_layer=3, n_head=2, pad_token_id=0)
    ).eval()


IDS = torch.tensor([[1, 5, 6, 7, 8], [1, 9, 10, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
SHIFT = torch.linspace(-1, 1, 16)


def shift(hidden: Tensor, keep: Tensor) -> Tensor:
    return hidden + SHIFT.to(hidden)


@pytest.mark.regression("SAE-24")
def test_base_logits_are_bit_identical_after_an_edit() -> None:
    model = tiny_llama()
    with torch.no_grad():
        before = model(input_ids=IDS, attention_mask=MASK).logits
        with edit(model, {1: shift}):
            assert hook_count(model) > 0
            during = model(input_ids=IDS, attention_mask=MASK).logits
        after = model(input_ids=IDS, attention_mask=MASK).logits
    assert not torch.equal(before, during)
    assert torch.equal(before, after)
    assert hook_count(model) == 0


@pytest.mark.regression("SAE-24", "ACT-32")
def test_an_edit_that_raises_half_way_leaves_no_hook_and_the_exception_arrives() -> None:
    model = tiny_llama()

    def broken(hidden: Tensor, keep: Tensor) -> Tensor:
        raise RuntimeError("half way")

    with torch.no_grad():
        before = model(input_ids=IDS, attention_mask=MASK).logits
        with pytest.raises(RuntimeError, match="half way"), edit(model, {0: shift, 1: broken}):
            model(input_ids=IDS, attention_mask=MASK)
        after = model(input_ids=IDS, attention_mask=MASK).logits
    assert hook_count(model) == 0
    assert torch.equal(before, after)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.regression("ACT-32")
def test_a_leaf_put_into_a_frozen_model_gets_the_gradient_that_autograd_gives() -> None:
    model = tiny_llama()
    with capture(model, [1]) as seen:
        loss = model(input_ids=IDS, attention_mask=MASK).logits.square().sum()
    (expected,) = torch.autograd.grad(loss, seen.hidden[1])
    model.requires_grad_(False)
    leaves: list[Tensor] = []

    def leaf(hidden: Tensor, keep: Tensor) -> Tensor:
        leaves.append(hidden.detach().clone().requires_grad_(True))
        return leaves[0]

    with edit(model, {1: leaf}):
        model(input_ids=IDS, attention_mask=MASK).logits.square().sum().backward()
    kept = seen.keep.unsqueeze(-1)
    assert torch.allclose(leaves[0].grad, expected * kept, atol=1e-5)
    assert all(weights.grad is None for weights in model.parameters())


def test_an_edit_reaches_kept_positions_only() -> None:
    model = tiny_llama()
    with (
        torch.no_grad(),
        capture(model, [1]) as before,
        edit(model, {1: shift}),
        capture(model, [1]) as after,
    ):
        model(input_ids=IDS, attention_mask=MASK)
    changed = (before.hidden[1] != after.hidden[1]).any(-1)
    assert changed.tolist() == [
        [False, True, True, True, True],
        [False, True, True, False, False],
    ]
    assert torch.equal(changed, after.keep)


def test_an_edit_that_returns_its_input_is_bit_identical() -> None:
    model = tiny_llama()
    with torch.no_grad():
        before = model(input_ids=IDS, attention_mask=MASK).logits
        with edit(model, {0: lambda hidden, keep: hidden, 2: lambda hidden, keep: hidden.clone()}):
            during = model(input_ids=IDS, attention_mask=MASK).logits
    assert torch.equal(before, during)


@pytest.mark.regression("ACT-29")
def test_tuple_blocks_and_tensor_blocks_are_edited_alike() -> None:
    hidden = torch.ones(1, 2, 3)
    assert unwrap(hidden) is hidden
    assert unwrap((hidden, None)) is hidden
    model = tuple_model()
    with torch.no_grad():
        before = model(input_ids=IDS, attention_mask=MASK).logits
        with edit(model, {1: shift}), capture(model, [1]) as seen:
            during = model(input_ids=IDS, attention_mask=MASK).logits
    assert seen.hidden[1].shape == (2, 5, 16)
    assert not torch.equal(before, during)


@pytest.mark.regression("ACT-01")
def test_left_padding_and_right_padding_read_and_edit_the_same_tokens() -> None:
    model = tiny_llama()
    left_ids = torch.tensor([[0, 0, 1, 9, 10]])
    left_mask = torch.tensor([[0, 0, 1, 1, 1]])
    left_positions = torch.tensor([[0, 0, 0, 1, 2]])
    with torch.no_grad(), edit(model, {1: shift}), capture(model, [1]) as seen:
        right = model(input_ids=IDS[1:], attention_mask=MASK[1:]).logits[0, :3]
        right_rows = seen.hidden[1][seen.keep]
        left = model(input_ids=left_ids, attention_mask=left_mask, position_ids=left_positions).logits[0, 2:]
        left_rows = seen.hidden[1][seen.keep]
    assert torch.allclose(left, right, atol=1e-5)
    assert left_rows.shape == (2, 16)
    assert torch.allclose(left_rows, right_rows, atol=1e-5)


def test_token_by_token_with_a_cache_equals_the_full_sequence() -> None:
    from transformers import DynamicCache

    model = tiny_llama()
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    steps = []
    with torch.no_grad(), edit(model, {0: shift, 2: shift}):
        whole = model(input_ids=IDS, attention_mask=mask, position_ids=positions).logits
        for step in range(5):
            steps.append(
                model(
                    input_ids=IDS[:, step : step + 1],
                    attention_mask=mask[:, : step + 1],
                    position_ids=positions[:, step : step + 1],
                    past_key_values=cache,
                    use_cache=True,
                ).logits
            )
    assert torch.allclose(torch.cat(steps, 1)[mask.bool()], whole[mask.bool()], atol=1e-5)


def test_generation_is_edited_at_every_step_without_a_mask_of_ours() -> None:
    model = tiny_llama()
    seen: list[Tensor] = []

    def note(hidden: Tensor, keep: Tensor) -> Tensor:
        seen.append(keep)
        return hidden

    with torch.no_grad(), edit(model, {0: note}):
        model.generate(
            torch.tensor([[0, 0, 1, 5], [1, 6, 7, 8]]),
            attention_mask=torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]),
            max_new_tokens=3,
            min_new_tokens=3,
            do_sample=False,
        )
    assert seen[0].tolist() == [[False, False, False, True], [False, True, True, True]]
    assert [tuple(keep.shape) for keep in seen[1:]] == [(2, 1), (2, 1)]
    assert all(keep.all() for keep in seen[1:])


def test_stop_ends_the_pass_after_the_last_wanted_block() -> None:
    model = tiny_llama()
    reached: list[int] = []
    watch = model.model.layers[2].register_forward_hook(lambda *_: reached.append(2))
    with torch.no_grad(), capture(model, [0, 1], stop=True) as seen:
        model(input_ids=IDS, attention_mask=MASK)
    watch.remove()
    assert sorted(seen.hidden) == [0, 1]
    assert reached == []
    assert hook_count(model) == 0


@pytest.mark.regression("ACT-03")
def test_the_last_block_is_read_before_the_final_norm() -> None:
    model = tiny_llama()
    with torch.no_grad(), capture(model, [0, 2]) as seen:
        states = model(input_ids=IDS, attention_mask=MASK, output_hidden_states=True).hidden_states
    assert torch.equal(states[1], seen.hidden[0])
    assert not torch.allclose(states[-1], seen.hidden[2])
    assert torch.allclose(model.model.norm(seen.hidden[2]), states[-1], atol=1e-6)


def test_our_capture_sees_the_edit_after_output_hidden_states_has_been_used() -> None:
    model = tiny_llama()
    with torch.no_grad():
        plain = model(input_ids=IDS, attention_mask=MASK, output_hidden_states=True).hidden_states
        with edit(model, {1: shift}), capture(model, [1]) as seen:
            model(input_ids=IDS, attention_mask=MASK, output_hidden_states=True)
    assert not torch.allclose(seen.hidden[1], plain[2])


def test_disabled_is_the_base_with_lora_and_edit_on_and_restores_after_an_exception() -> None:
    from peft import LoraConfig, get_peft_model

    base = tiny_llama()
    with torch.no_grad():
        reference = base(input_ids=IDS, attention_mask=MASK).logits
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    model.eval()
    with torch.no_grad(), edit(model, {1: shift}):
        edited = model(input_ids=IDS, attention_mask=MASK).logits
        with pytest.raises(ValueError, match="inside"), disabled(model), disabled(model):
            assert torch.equal(model(input_ids=IDS, attention_mask=MASK).logits, reference)
            raise ValueError("inside")
        assert torch.equal(model(input_ids=IDS, attention_mask=MASK).logits, edited)
    assert not torch.equal(edited, reference)


@pytest.mark.regression("SAE-16")
def test_an_edit_that_changes_the_dtype_is_refused() -> None:
    model = tiny_llama().to(torch.bfloat16)
    with torch.no_grad(), edit(model, {1: shift}):
        assert model(input_ids=IDS, attention_mask=MASK).logits.dtype == torch.bfloat16
    with (
        torch.no_grad(),
        pytest.raises(InputError, match=r"bfloat16.*float32"),
        edit(model, {1: lambda hidden, keep: hidden.float()}),
    ):
        model(input_ids=IDS, attention_mask=MASK)


def test_unknown_layers_and_masks_of_the_wrong_length_are_refused() -> None:
    model = tiny_llama()
    with pytest.raises(InputError, match="from 0 to 2"), capture(model, [3]):
        pass
    with pytest.raises(InputError, match="from 0 to 2"), edit(model, {}):
        pass
    with (
        pytest.raises(InputError, match="attention_mask"),
        edit(model, {0: shift}),
    ):
        model.model(input_ids=IDS, attention_mask=MASK[:, :3])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5)), min_size=1, max_size=4),
    st.booleans(),
)
def test_exactly_the_first_real_token_is_not_kept(sequences: list[tuple[int, int]], left: bool) -> None:
    width = max(pads + length for pads, length in sequences)
    rows = []
    for _, length in sequences:
        pads = width - length
        real = [1] * length
        rows.append([0] * pads + real if left else real + [0] * pads)
    mask = torch.tensor(rows)
    keep = kept_tokens(mask)
    for row, kept, (_, length) in zip(rows, keep.tolist(), sequences, strict=True):
        first = row.index(1)
        assert sum(kept) == length - 1
        assert not kept[first]
        assert all(real for real, is_kept in zip(row, kept, strict=True) if is_kept)


@pytest.mark.regression("ACT-31")
def test_a_forward_moves_casts_and_replaces_nothing() -> None:
    from mmie.interventions.operations import ablate

    model = tiny_llama()
    direction = torch.nn.functional.normalize(torch.arange(16.0), dim=0)

    def places() -> list[tuple[int, torch.device, torch.dtype]]:
        return [(id(value), value.device, value.dtype) for value in [*model.parameters(), direction]]

    before = places()
    with torch.no_grad(), edit(model, {1: lambda hidden, keep: ablate(hidden, direction)}):
        model(input_ids=IDS, attention_mask=MASK)
        assert places() == before
    assert places() == before


def test_an_edit_with_a_memory_is_told_where_a_request_begins() -> None:
    model, seen = tiny_llama(), []
    with torch.no_grad(), edit(model, {0: shift}, on_pass=seen.append):
        cache = model(input_ids=IDS[:1], use_cache=True).past_key_values
        model(input_ids=torch.tensor([[9]]), past_key_values=cache, use_cache=True)
        with disabled(model):
            model(input_ids=IDS[:1])
    assert [given.past for given in seen] == [0, 5]
    assert all(isinstance(given, Pass) for given in seen)
    assert seen[1].ids.tolist() == [[9]]
