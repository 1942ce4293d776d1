import ast
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmie.errors import InputError
from mmie.models.blocks import find_blocks, verify_blocks
from mmie.models.hooks import edit
from mmie.models.loading import attention_kernel, load_model, precision, record_choices, save_model

ROOT = Path(__file__).resolve().parents[2]


def two_lists():
    """A real architecture with two lists as long as its depth: blocks, and projections of the stream."""
    from transformers import Gemma3nForCausalLM, Gemma3nTextConfig

    return Gemma3nForCausalLM(
        Gemma3nTextConfig(
            vocab_size=64,
            vocab_size_per_layer_input=64,
            hidden_size=16,
            hidden_size_per_layer_input=8,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
            intermediate_size=32,
            laurel_rank=4,
            altup_num_inputs=4,
            num_kv_shared_layers=0,
            activation_sparsity_pattern=[0.0] * 3,
            layer_types=["full_attention"] * 3,
        )
    )


@pytest.fixture
def saved(toy_model, toy_tokenizer, tmp_path):
    save_model(toy_model, toy_tokenizer, tmp_path)
    return tmp_path


def test_saved_model_comes_back_bit_for_bit_and_ready_to_measure(saved, toy_model) -> None:
    model, tokenizer = load_model(saved)
    ids = torch.tensor([[1, 10, 11]])
    with torch.no_grad():
        assert torch.equal(model(ids).logits, toy_model(ids).logits)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert tokenizer("w10 w11", add_special_tokens=False)["input_ids"] == [10, 11]
    assert tokenizer.eos_token_id == 2


def test_saved_weights_are_readable_like_the_other_files(saved) -> None:
    modes = {file.stat().st_mode for file in saved.iterdir()}
    assert len(modes) == 1


def test_weights_are_safetensors_only(saved) -> None:
    assert not [file.name for file in saved.iterdir() if file.suffix in (".bin", ".pt", ".pkl")]
    weights = load_file(saved / "model.safetensors")
    (saved / "model.safetensors").unlink()
    torch.save(weights, saved / "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors"):
        load_model(saved)


def test_weights_that_do_not_fit_the_config_are_an_error(saved) -> None:
    weights = load_file(saved / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"missing keys .* model\.norm\.weight"):
        load_model(saved)


def test_missing_model_names_the_path(tmp_path) -> None:
    with pytest.raises(InputError, match=r"config\.json is missing"):
        load_model(tmp_path / "nothing")


def test_unknown_dtype_names_the_key(saved) -> None:
    with pytest.raises(InputError, match=r"model\.dtype"):
        load_model(saved, dtype="float8")


def test_class_comes_from_the_registry_when_the_config_names_none(saved) -> None:
    config = json.loads((saved / "config.json").read_text())
    del config["architectures"]
    (saved / "config.json").write_text(json.dumps(config))
    assert type(load_model(saved)[0]).__name__ == "LlamaForCausalLM"


# -------------------------------------------------------------------------------- attention kernel


@pytest.mark.regression("ACT-27")
def test_a_kernel_that_is_not_here_is_an_error_with_a_remedy(saved) -> None:
    with pytest.raises(InputError, match=r"model\.attention: 'flash_attention_2' cannot be used.*`sdpa`"):
        load_model(saved, attention="flash_attention_2")


@pytest.mark.regression("ACT-27")
def test_a_kernel_that_the_architecture_lacks_is_an_error(tmp_path, toy_tokenizer) -> None:
    from transformers import BloomConfig, BloomForCausalLM

    model = BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=16, n_layer=2, n_head=2))
    save_model(model, toy_tokenizer, tmp_path)
    assert attention_kernel(load_model(tmp_path)[0]) == "eager"
    with pytest.raises(InputError, match=r"model\.attention: 'sdpa' cannot be used"):
        load_model(tmp_path, attention="sdpa")


@pytest.mark.regression("ACT-27")
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_later_loads_take_the_kernel_that_was_recorded(saved, kernel) -> None:
    model, _ = load_model(saved, attention=kernel)
    assert record_choices(model, saved)["attention"] == kernel
    assert attention_kernel(load_model(saved)[0]) == kernel


@pytest.mark.regression("ACT-27")
def test_no_stage_but_the_first_may_name_a_kernel_and_all_load_its_folder() -> None:
    """Rows of one report share a kernel because nobody after `base` can choose another one."""
    seen = {}
    for script in sorted((ROOT / "scripts").glob("*.py")):
        for call in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "load_model":
                names = {keyword.arg for keyword in call.keywords}
                seen[script.stem] = (ast.unparse(call.args[0]), "attention" in names)
    assert seen.pop("base")[1]
    assert {"activations", "arm", "attack", "evaluate", "reference", "relearn"} <= set(seen)
    assert {source for source, _ in seen.values()} <= {"given.base", "snakemake.input.base"}
    assert not any(chosen for _, chosen in seen.values())


# ------------------------------------------------------------------------------------------ blocks


def test_recorded_blocks_are_those_of_every_later_load(tmp_path, toy_tokenizer) -> None:
    save_model(two_lists(), toy_tokenizer, tmp_path)
    with pytest.raises(InputError, match=r"several lists .*altup.*model\.blocks"):
        find_blocks(load_model(tmp_path)[0])
    model, _ = load_model(tmp_path, blocks="model.layers")
    record_choices(model, tmp_path, blocks="model.layers")
    again, _ = load_model(tmp_path)
    assert find_blocks(again) is again.model.layers
    # Its stream is four streams at once, which the first stage finds out.
    with pytest.raises(InputError, match=r"outputs \[\(4, 1, 4, 16\)\]"):
        verify_blocks(again)


def test_the_named_list_is_acted_on_whatever_else_is_as_long(saved) -> None:
    model, _ = load_model(saved, blocks="model.layers")
    record_choices(model, saved, blocks="model.layers")
    later, _ = load_model(saved)
    later.adapters = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(2))
    verify_blocks(later)
    ids = torch.tensor([[1, 10, 11]])
    with torch.no_grad(), edit(later, {1: lambda hidden, keep: hidden * 2}):
        changed = later(ids).logits
    assert not torch.equal(changed, later(ids).logits)


def test_a_wrong_path_of_blocks_lists_the_candidates(saved) -> None:
    with pytest.raises(InputError, match=r"Candidates: model\.layers \(2\).*model\.blocks"):
        load_model(saved, blocks="model.h")


# --------------------------------------------------------------------------------------- precision


@pytest.mark.regression("ACT-28")
def test_the_default_load_has_no_quantised_module_and_says_its_precision() -> None:
    model, _ = load_model(ROOT / "data/nano")
    assert precision(model) == {"dtypes": ["float32"], "quantised": []}
    assert {type(module).__name__ for module in model.modules() if hasattr(module, "in_features")} == {
        "Linear"
    }


@pytest.mark.regression("ACT-28")
def test_the_type_is_the_one_that_was_asked_for(saved) -> None:
    assert precision(load_model(saved, dtype="bfloat16")[0])["dtypes"] == ["bfloat16"]


@pytest.mark.regression("ACT-28")
def test_a_packed_weight_is_seen_as_quantised(toy_model) -> None:
    layer = toy_model.model.layers[0].self_attn.q_proj
    layer.weight = torch.nn.Parameter(torch.zeros(16, 16, dtype=torch.int8), requires_grad=False)
    assert precision(toy_model)["quantised"] == ["model.layers.0.self_attn.q_proj"]


@pytest.mark.regression("ACT-28")
def test_weights_that_would_quantise_themselves_are_refused(saved) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="the weights are quantised"):
        load_model(saved)


def test_a_model_type_that_is_no_package_loads_by_the_registry(tmp_path, toy_tokenizer) -> None:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        vocab_size=64,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=32,
    )
    assert config.model_type == "gemma3_text"
    save_model(Gemma3ForCausalLM(config), toy_tokenizer, tmp_path)
    assert type(load_model(tmp_path)[0]).__name__ == "Gemma3ForCausalLM"
