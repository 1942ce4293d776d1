from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertLMHeadModel,
    BloomConfig,
    BloomForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from mmie.errors import InputError
from mmie.models.blocks import (
    block_device,
    find_blocks,
    find_decoder,
    name_blocks,
    neurons,
    verify_blocks,
)

LAYERS = 3


def tiny(architecture: str) -> PreTrainedModel:
    """A random model of three blocks, width 16, 40 tokens."""
    torch.manual_seed(0)
    common = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    usual = {
        **common,
        "hidden_size": 16,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    if architecture == "llama":
        model: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**usual, num_key_value_heads=2))
    elif architecture == "bert":
        model = BertLMHeadModel(BertConfig(**usual, is_decoder=True, max_position_embeddings=64))
    elif architecture == "neox":
        model = GPTNeoXForCausalLM(GPTNeoXConfig(**usual))
    elif architecture == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(**common, n_embd=16, n_layer=LAYERS, n_head=2))
    elif architecture == "bloom":
        model = BloomForCausalLM(BloomConfig(**common, hidden_size=16, n_layer=LAYERS, n_head=2))
    elif architecture == "falcon":
        model = FalconForCausalLM(
            FalconConfig(**common, hidden_size=16, num_hidden_layers=LAYERS, num_attention_heads=2)
        )
    else:
        model = OPTForCausalLM(
            OPTConfig(
                **common,
                hidden_size=16,
                word_embed_proj_dim=16,
                num_hidden_layers=LAYERS,
                num_attention_heads=2,
                ffn_dim=32,
                max_position_embeddings=64,
            )
        )
    return model.eval()


ARCHITECTURES = ["llama", "gpt2", "neox", "bloom", "falcon", "opt", "bert"]


@pytest.mark.regression("ACT-18")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_blocks_are_found_by_structure(architecture: str) -> None:
    model = tiny(architecture)
    blocks = find_blocks(model)
    assert len(blocks) == LAYERS
    assert len({type(block) for block in blocks}) == 1
    assert find_blocks(model.base_model) is blocks


def test_blocks_of_a_peft_model_are_those_of_its_base() -> None:
    from peft import LoraConfig, get_peft_model

    model = tiny("llama")
    blocks = find_blocks(model)
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    assert find_blocks(wrapped) is blocks


@pytest.mark.regression("ACT-18")
def test_a_decoy_with_a_layers_child_is_refused() -> None:
    decoy = nn.Module()
    decoy.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    with pytest.raises(InputError, match=r"layers \(3\)"):
        find_blocks(decoy)


@pytest.mark.regression("ACT-18")
def test_a_count_other_than_the_configuration_is_refused_with_candidates() -> None:
    model = tiny("llama")
    model.config.num_hidden_layers = 5
    with pytest.raises(InputError, match=r"no list of 5 blocks.*model\.layers \(3\)"):
        find_blocks(model)


def test_two_lists_that_qualify_need_a_path() -> None:
    model = tiny("llama")
    model.adapters = nn.ModuleList(nn.Linear(2, 2) for _ in range(LAYERS))
    with pytest.raises(InputError, match="several lists"):
        find_blocks(model)
    assert find_blocks(model, path="model.layers") is model.model.layers


def test_the_error_says_what_was_looked_for_and_which_key_names_the_path() -> None:
    model = tiny("llama")
    model.adapters = nn.ModuleList(nn.Linear(2, 2) for _ in range(LAYERS))
    with pytest.raises(
        InputError, match=r"Looked for: module lists of 3 members.*adapters \(3\).*model\.blocks"
    ):
        find_blocks(model)


def test_a_named_list_is_found_without_its_path_also_under_a_wrapper() -> None:
    from peft import LoraConfig, get_peft_model

    model = tiny("llama")
    model.adapters = nn.ModuleList(nn.Linear(2, 2) for _ in range(LAYERS))
    assert name_blocks(model, "model.layers") is model.model.layers
    assert find_blocks(model) is model.model.layers
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    assert find_blocks(wrapped) is model.model.layers


@pytest.mark.regression("ACT-18")
def test_the_decoder_is_what_takes_ids_around_a_list_in_an_encoder() -> None:
    model = tiny("bert")
    decoder, blocks = find_decoder(model)
    assert decoder is model.bert
    assert blocks is model.bert.encoder.layer


@pytest.mark.regression("ACT-18")
def test_a_model_that_does_not_run_from_ids_alone_is_refused_with_the_reason() -> None:
    class Captioner(LlamaModel):
        def forward(self, input_ids: torch.Tensor, *, pixels: torch.Tensor, **others: object) -> object:
            return super().forward(input_ids, **others)

    model = tiny("llama")
    model.model = Captioner(model.config)
    with pytest.raises(InputError, match=r"probe of 4 tokens failed in Captioner: .*pixels"):
        verify_blocks(model)
    assert not any(module._forward_hooks for module in model.modules())


def test_blocks_that_nothing_around_feeds_with_ids_are_refused() -> None:
    model = nn.Module()
    model.config = LlamaConfig(num_hidden_layers=LAYERS)
    model.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(LAYERS))
    with pytest.raises(InputError, match="no module around the blocks layers takes `input_ids`"):
        find_decoder(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_probe_runs_through_the_blocks_in_order(architecture: str, dtype: torch.dtype) -> None:
    model = tiny(architecture).to(dtype)
    stream = verify_blocks(model)
    assert (stream.width, stream.dtype) == (16, dtype)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.regression("ACT-18")
def test_a_list_of_the_right_length_that_never_runs_is_found_out() -> None:
    model = tiny("llama")
    model.adapters = nn.ModuleList(nn.Linear(2, 2) for _ in range(LAYERS))
    name_blocks(model, "adapters")
    with pytest.raises(InputError, match=r"probe of 4 tokens called blocks .*model\.blocks"):
        verify_blocks(model)


@pytest.mark.parametrize(("architecture", "width"), [("llama", 32), ("gpt2", 64), ("neox", 32)])
def test_neurons_are_what_the_activation_function_returns(architecture: str, width: int) -> None:
    model, shapes = tiny(architecture), []
    watch = neurons(find_blocks(model)[0]).register_forward_hook(
        lambda _module, _inputs, output: shapes.append(tuple(output.shape))
    )
    with torch.no_grad():
        model(input_ids=torch.tensor([[1, 5, 6]]))
    watch.remove()
    assert shapes == [(1, 3, width)]


def test_a_block_without_one_activation_module_has_no_neurons_to_edit() -> None:
    with pytest.raises(InputError, match="one activation function a block is expected, found none"):
        neurons(find_blocks(tiny("bloom"))[0])


@pytest.mark.regression("ACT-30")
def test_a_model_whose_weights_are_elsewhere_runs_edits_where_its_blocks_compute() -> None:
    """accelerate keeps the weights off the device (`meta`) and fetches them for each block."""
    from accelerate import cpu_offload

    from mmie.models.hooks import edit

    whole = tiny("llama")
    model = tiny("llama")
    cpu_offload(model, execution_device=torch.device("cpu"))
    block = find_blocks(model)[1]
    assert next(block.parameters()).device.type == "meta"
    assert block_device(block) == torch.device("cpu")
    ids, found = torch.tensor([[1, 5, 6, 7]]), []
    for one in (whole, model):
        step = torch.ones(16, device=block_device(find_blocks(one)[1]))
        with torch.no_grad(), edit(one, {1: lambda hidden, keep, step=step: hidden + step}):
            found.append(one(input_ids=ids).logits)
    assert torch.allclose(*found, atol=1e-6)


@pytest.mark.regression("ACT-30")
def test_weights_that_are_nowhere_are_refused() -> None:
    with pytest.raises(InputError, match="no device map says where they run"):
        block_device(nn.Linear(2, 2, device="meta"))
