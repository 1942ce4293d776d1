import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.errors import InputError
from mmie.models.prompts import (
    Encoded,
    collate,
    encode,
    encode_all,
    length_buckets,
    padding_id,
)

PAD, BOS, EOS = 0, 1, 2


def test_item_is_bos_prompt_answer_eos(toy_tokenizer) -> None:
    assert encode(toy_tokenizer, "w10 w11", "w12 w13") == Encoded([BOS, 10, 11, 12, 13, EOS], 3)
    assert encode(toy_tokenizer, "w10 w11", "w12", count_eos=False) == Encoded([BOS, 10, 11, 12], 3)


def test_generation_prompt_is_the_prompt_of_the_likelihood(toy_tokenizer) -> None:
    prompt = encode(toy_tokenizer, "w10 w11", None)
    whole = encode(toy_tokenizer, "w10 w11", "w12")
    assert prompt.ids == whole.ids[: whole.answer_start]
    assert prompt.answer_start == len(prompt.ids)


def test_many_items_are_encoded_like_one_at_a_time(toy_tokenizer) -> None:
    prompts, answers = ["w4", "", "w5 w6"], ["w7", "w8", None]
    together = encode_all(toy_tokenizer, prompts, answers)
    assert together == [encode(toy_tokenizer, *pair) for pair in zip(prompts, answers, strict=True)]
    assert encode_all(toy_tokenizer, [], []) == []


def test_without_bos_an_empty_prompt_still_gives_the_answer_a_context(toy_tokenizer) -> None:
    toy_tokenizer.bos_token = None
    assert encode(toy_tokenizer, "", "w7") == Encoded([EOS, 7, EOS], 1)
    assert encode(toy_tokenizer, "w4", "w7") == Encoded([4, 7, EOS], 1)


def test_tokenizer_without_an_end_token_is_an_error(toy_tokenizer) -> None:
    toy_tokenizer.eos_token = None
    with pytest.raises(InputError, match="end-of-sequence"):
        encode(toy_tokenizer, "w4", "w5")


def test_end_token_is_a_target_even_when_it_is_also_the_pad(toy_tokenizer) -> None:
    toy_tokenizer.pad_token = None
    assert padding_id(toy_tokenizer) == EOS
    items = encode_all(toy_tokenizer, ["w4", "w4"], ["w5", "w5 w6"])
    batch = collate(items, EOS)
    assert batch.answer_mask.tolist() == [[False, False, True, True, False], [False, False] + [True] * 3]


@pytest.mark.parametrize("side", ["right", "left"])
def test_masks_and_positions_by_hand(side) -> None:
    batch = collate([Encoded([1, 10, 11, 2], 2), Encoded([1, 12], 1)], PAD, side=side)
    if side == "right":
        assert batch.input_ids.tolist() == [[1, 10, 11, 2], [1, 12, 0, 0]]
        assert batch.attention_mask.tolist() == [[True] * 4, [True, True, False, False]]
        assert batch.answer_mask.tolist() == [[False, False, True, True], [False, True, False, False]]
        assert batch.position_ids.tolist() == [[0, 1, 2, 3], [0, 1, 0, 0]]
    else:
        assert batch.input_ids.tolist() == [[1, 10, 11, 2], [0, 0, 1, 12]]
        assert batch.attention_mask.tolist() == [[True] * 4, [False, False, True, True]]
        assert batch.answer_mask.tolist() == [[False, False, True, True], [False, False, False, True]]
        assert batch.position_ids.tolist() == [[0, 1, 2, 3], [0, 0, 0, 1]]


@settings(max_examples=50)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=6),
    side=st.sampled_from(["left", "right"]),
)
def test_masks_hold_every_token_once_whatever_the_padding(lengths, side) -> None:
    items = [Encoded(list(range(3, 3 + before + after)), before) for before, after in lengths]
    batch = collate(items, PAD, side=side)
    for row, item in enumerate(items):
        assert batch.input_ids[row][batch.attention_mask[row]].tolist() == item.ids
        assert batch.input_ids[row][batch.answer_mask[row]].tolist() == item.ids[item.answer_start :]
        assert batch.position_ids[row][batch.attention_mask[row]].tolist() == list(range(len(item.ids)))
    assert not bool((batch.answer_mask & ~batch.attention_mask).any())
    assert batch.inputs()["attention_mask"].dtype == torch.long


def test_buckets_hold_every_index_once_longest_first() -> None:
    items = [Encoded([1] * length, 1) for length in (3, 9, 5, 9, 1)]
    assert list(length_buckets(items, 2)) == [[1, 3], [2, 0], [4]]
    with pytest.raises(ValueError, match="batch_size"):
        list(length_buckets(items, 0))


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="empty batch"):
        collate([], PAD)
    with pytest.raises(ValueError, match="side"):
        collate([Encoded([1], 1)], PAD, side="both")
