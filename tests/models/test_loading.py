import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmie.errors import InputError
from mmie.models.loading import load_model, save_model


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
