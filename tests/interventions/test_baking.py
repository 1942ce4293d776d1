"""Baking must take the whole of what a block writes, or say that it cannot."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from mmie.errors import InputError
from mmie.interventions.baking import WRITERS, check_nothing_is_written, projected_writers
from mmie.interventions.interface import Fitted, base_weights_hash
from mmie.interventions.subspace import SubspaceProjection
from mmie.models.blocks import find_blocks
from mmie.models.hooks import capture

WIDTH, IDS = 16, torch.tensor([[1, 5, 6, 7, 9, 12, 3]])
LLAMA = {
    "hidden_size": WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "tie_word_embeddings": False,
}
GPT = {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "n_positions": 32, "rotary_dim": 4}
OPT = {
    "hidden_size": WIDTH,
    "word_embed_proj_dim": WIDTH,
    "ffn_dim": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}
NEOX = {key: LLAMA[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers")}
EXPERTS = {**LLAMA, "num_local_experts": 3, "num_experts_per_tok": 2}
QWEN_EXPERTS = {
    **LLAMA,
    "num_experts": 3,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
}
# The experts' inner width equals the stream's: shapes alone do not say which axis is which.
SQUARE = {**EXPERTS, "intermediate_size": WIDTH}
BAKED: list[tuple[str, dict[str, Any]]] = [
    ("Llama", LLAMA),
    ("GPT2", GPT),
    ("GPTJ", GPT),
    ("CodeGen", {**GPT, "n_head": 4}),
    ("OPT", OPT),
    ("GPTNeoX", {**NEOX, "num_attention_heads": 2}),
    ("Mixtral", EXPERTS),
    ("Mixtral", SQUARE),
    ("Qwen2Moe", QWEN_EXPERTS),
    ("GptOss", EXPERTS),
    ("GptOss", SQUARE),
]
REFUSED = [("Olmo2", LLAMA), ("Gemma2", LLAMA)]


def tiny(family: str, options: dict[str, Any]) -> Any:
    """A random model of two blocks; norms have gains that differ, as in a trained one."""
    config = getattr(transformers, f"{family}Config")(vocab_size=40, pad_token_id=0, **options)
    name = "GPT2LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
    torch.manual_seed(0)
    model = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(0, 0.3)
    return model


def baked_arm(model: Any, **options: Any) -> SubspaceProjection:
    """An arm whose subspaces are random, as if it had been fitted to the model."""
    generator = torch.Generator().manual_seed(1)
    arm = SubspaceProjection(baked=True, rank=2, **options)
    tensors = {
        f"layers.{layer}.basis": torch.linalg.qr(torch.randn(WIDTH, 2, generator=generator)).Q
        for layer in (0, 1)
    }
    arm.fitted = Fitted({"layers": {"0": {}, "1": {}}, "base_hash": base_weights_hash(model)}, tensors)
    return arm


def written(model: Any, arm: SubspaceProjection) -> Tensor:
    """What the last block adds along its subspace, [batch, time, rank]."""
    assert arm.fitted is not None
    # Not the library's own probe: the last block's output, and the one before it.
    with torch.no_grad(), capture(model, [0, 1]) as seen:
        model(input_ids=IDS)
    added = (seen.hidden[1] - seen.hidden[0]).float()
    return added @ arm.fitted.tensors["layers.1.basis"]


@pytest.mark.parametrize(("family", "options"), BAKED)
def test_baked_blocks_write_nothing_whatever_the_writers_are_called(
    family: str, options: dict[str, Any]
) -> None:
    model = tiny(family, options)
    arm = baked_arm(model)
    before = written(model, arm)
    assert float(before.abs().max()) > 1e-2
    with arm.applied(model):
        assert float(written(model, arm).abs().max()) < 1e-5
    assert torch.equal(written(model, arm), before)


@pytest.mark.parametrize(("family", "options"), REFUSED)
def test_a_norm_with_gains_after_the_writers_is_refused_and_the_weights_come_back(
    family: str, options: dict[str, Any]
) -> None:
    model = tiny(family, options)
    arm, before = baked_arm(model), base_weights_hash(model)
    with (
        pytest.raises(InputError, match=rf"block 0 \({family}DecoderLayer\).*o_proj.*`baked: false`"),
        arm.applied(model),
    ):
        pass
    assert base_weights_hash(model) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("writers", [["o_proj"], ["down_proj"], list(WRITERS)])
def test_a_part_of_the_writers_is_not_enough_in_any_type(dtype: torch.dtype, writers: list[str]) -> None:
    model = tiny("Llama", LLAMA).to(dtype)
    arm, before = baked_arm(model, writers=writers), base_weights_hash(model)
    if len(writers) > 1:
        with arm.applied(model):
            pass
    else:
        with pytest.raises(InputError, match=f"{writers[0]}.weight projected"), arm.applied(model):
            pass
    assert base_weights_hash(model) == before


def test_half_a_strength_takes_half_of_each_matrix_and_bias() -> None:
    model = tiny("GPT2", GPT)
    arm = baked_arm(model, strength=0.5)
    assert arm.fitted is not None
    basis = arm.fitted.tensors["layers.1.basis"]
    bias = model.transformer.h[1].mlp.c_proj.bias.detach().clone()
    weight = model.transformer.h[1].mlp.c_proj.weight.detach().clone()
    with arm.applied(model):
        layer = model.transformer.h[1].mlp.c_proj
        assert torch.allclose(layer.bias, bias - 0.5 * basis @ (basis.T @ bias), atol=1e-6)
        assert torch.allclose(layer.weight, weight - 0.5 * weight @ basis @ basis.T, atol=1e-6)


def test_a_layer_that_does_not_write_to_the_stream_is_refused() -> None:
    model = tiny("Llama", LLAMA)
    basis = {0: torch.eye(WIDTH)[:, :1]}
    with pytest.raises(InputError, match=r"up_proj.weight does not write to the stream"):
        projected_writers(model, basis, ["up_proj"])


def test_the_check_leaves_no_hook_and_no_mode_behind() -> None:
    model = tiny("Llama", LLAMA).train()
    with pytest.raises(InputError, match="cannot be baked"):
        check_nothing_is_written(model, {1: torch.eye(WIDTH)[:, :1]}, WRITERS)
    assert model.training
    assert not any(block._forward_hooks for block in find_blocks(model))
