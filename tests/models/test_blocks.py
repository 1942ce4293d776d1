from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
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
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from mmie.errors import InputError
from mmie.models.blocks import find_blocks

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


ARCHITECTURES = ["llama", "gpt2", "neox", "bloom", "falcon", "opt"]


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
