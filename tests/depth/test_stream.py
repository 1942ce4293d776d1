import pytest
import torch

from mmie.depth.stream import (
    answer_features,
    batches,
    lens_log_p,
    noisy_log_p,
    output_stage,
    patched_log_p,
    read_states,
)
from mmie.errors import InputError
from mmie.interventions import FitData, build
from mmie.models.hooks import hook_count


@pytest.fixture
def states(toy_model, toy_tokenizer, toy_rows):
    rows = toy_rows("xx", 6)
    parts = batches(toy_tokenizer, rows["prompt"].tolist(), rows["answer"].tolist(), 8)
    return read_states(toy_model, *parts[0])


def test_lens_at_the_last_layer_is_the_model_itself(toy_model, states) -> None:
    assert torch.allclose(lens_log_p(toy_model, states, 1), states.log_p, atol=1e-5)
    assert not torch.allclose(lens_log_p(toy_model, states, 0), states.log_p, atol=1e-3)


def test_patching_a_model_with_its_own_state_changes_nothing(toy_model, states) -> None:
    for layer in (0, 1):
        assert torch.equal(patched_log_p(toy_model, states, layer), states.log_p)
    assert hook_count(toy_model) == 0


def test_patching_the_last_layer_gives_the_other_model_where_heads_agree(
    toy_model, toy_tokenizer, toy_rows
) -> None:
    rows = toy_rows("xx", 4)
    parts = batches(toy_tokenizer, rows["prompt"].tolist(), rows["answer"].tolist(), 8)
    own = toy_model.model.layers[0].mlp.up_proj.weight.data.clone()
    toy_model.model.layers[0].mlp.up_proj.weight.data.mul_(-3.0)
    other = read_states(toy_model, *parts[0])
    toy_model.model.layers[0].mlp.up_proj.weight.data.copy_(own)
    base = read_states(toy_model, *parts[0])
    assert not torch.allclose(other.log_p, base.log_p, atol=1e-4)
    # The base's layers above see the other model's state: with the last layer, only its answer is left.
    assert torch.allclose(patched_log_p(toy_model, other, 1), other.log_p, atol=1e-5)


@pytest.mark.regression("EVA-17")
def test_zero_noise_has_zero_effect_and_draws_have_one_norm(toy_model, states) -> None:
    def generator(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    assert torch.equal(noisy_log_p(toy_model, states, 0, 0.0, generator(1)), states.log_p)
    first, again, other = (noisy_log_p(toy_model, states, 0, 0.5, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    seen = []
    from mmie.models.hooks import capture

    for seed in (1, 2):
        with capture(toy_model, [0], receive=lambda _, hidden, __: seen.append(hidden)):
            noisy_log_p(toy_model, states, 0, 0.5, generator(seed))
    # The capture stands outside the edit and sees the stream as it was; sizes follow from the states.
    assert torch.equal(seen[0], seen[1])


def test_features_are_the_parts_of_the_last_layers_own_logit(toy_model, states) -> None:
    norm, head = output_stage(toy_model)
    first = states.batch.answer_mask.int().argmax(-1)
    rows = torch.arange(len(first))
    # Without the norm, the sum over dimensions is what the head gives to the first answer token.
    logits = head(states.hidden[1][rows, first - 1])
    expected = logits[rows, states.batch.input_ids[rows, first]]
    assert torch.allclose(answer_features(toy_model, states, 1).sum(-1), expected, atol=1e-5)
    assert norm is toy_model.model.norm


def test_arm_that_puts_an_instruction_before_the_text_is_measured_at_the_text(
    toy_model, toy_tokenizer, toy_rows
) -> None:
    rows = toy_rows("xx", 4)
    arm = build({"kind": "prompt_only", "instruction": "w40 w41"})
    arm.fit(toy_model, FitData(tokenizer=toy_tokenizer), seed=1)
    parts = batches(toy_tokenizer, rows["prompt"].tolist(), rows["answer"].tolist(), 8)
    with arm.applied(toy_model) as model:
        states = read_states(model, *parts[0])
        assert torch.allclose(lens_log_p(model, states, 1), states.log_p, atol=1e-5)
        quiet = noisy_log_p(model, states, 0, 0.0, torch.Generator().manual_seed(1))
    assert torch.equal(quiet, states.log_p)
    assert states.hidden[0].shape[1] == states.batch.input_ids.shape[1]


def test_decoder_without_a_final_norm_is_named(toy_model) -> None:
    toy_model.model.unusual = toy_model.model.norm
    del toy_model.model.norm
    with pytest.raises(InputError, match="no final norm"):
        output_stage(toy_model)
