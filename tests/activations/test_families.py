"""Architectures whose blocks, masks or outputs differ give the same rows in a batch as one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from mmie.activations.extract import ExtractionOptions, extract_language
from mmie.activations.storage import open_rows
from mmie.models.hooks import capture, hook_count
from mmie.models.prompts import encode

COMMON = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "hidden_size": 16}
USUAL = {**COMMON, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
GROUPED = {**USUAL, "num_key_value_heads": 2}
SMALL_EXPERTS = {"moe_intermediate_size": 8, "shared_expert_intermediate_size": 8, "num_experts": 3}
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertLMHeadModel", "BertConfig", {**USUAL, "is_decoder": True}),
    "xlm-roberta": (
        "XLMRobertaForCausalLM",
        "XLMRobertaConfig",
        {**USUAL, "is_decoder": True, "max_position_embeddings": 64},
    ),
    "opt": (
        "OPTForCausalLM",
        "OPTConfig",
        {**USUAL, "ffn_dim": 32, "word_embed_proj_dim": 16, "max_position_embeddings": 64},
    ),
    "bloom": ("BloomForCausalLM", "BloomConfig", {**COMMON, "n_layer": 2, "n_head": 2}),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", USUAL),
    "falcon": (
        "FalconForCausalLM",
        "FalconConfig",
        {**COMMON, "num_hidden_layers": 2, "num_attention_heads": 2},
    ),
    "mpt": (
        "MptForCausalLM",
        "MptConfig",
        {"vocab_size": 64, "d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": 32},
    ),
    "phi": ("PhiForCausalLM", "PhiConfig", USUAL),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", {**GROUPED, "head_dim": 8}),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", {**GROUPED, "head_dim": 8}),
    "qwen2_moe": (
        "Qwen2MoeForCausalLM",
        "Qwen2MoeConfig",
        {**GROUPED, **SMALL_EXPERTS, "num_experts_per_tok": 2},
    ),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", {**GROUPED, "num_local_experts": 3}),
    "mamba": ("MambaForCausalLM", "MambaConfig", {**COMMON, "num_hidden_layers": 2, "state_size": 4}),
}


@pytest.mark.regression("ACT-02", "ACT-29")
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_a_padded_batch_are_those_of_items_alone(
    family: str, tmp_path: Path, toy_tokenizer: Any, toy_rows: Callable[..., pd.DataFrame]
) -> None:
    torch.manual_seed(0)
    kind, settings, shape = FAMILIES[family]
    model = getattr(transformers, kind)(getattr(transformers, settings)(**shape)).eval()
    rows = toy_rows("xx", count=5)
    extract_language(model, toy_tokenizer, rows, tmp_path / "xx", ExtractionOptions(token_budget=1000))
    alone = []
    for prompt, answer in zip(rows["prompt"], rows["answer"], strict=True):
        ids = encode(toy_tokenizer, prompt, answer).ids
        with torch.no_grad(), capture(model, [1]) as seen:
            model(input_ids=torch.tensor([ids]))
        alone.append(seen.hidden[1][0, 1:-1].numpy())
    assert np.allclose(open_rows(tmp_path / "xx/layer1.safetensors"), np.concatenate(alone), atol=1e-5)
    assert hook_count(model) == 0
