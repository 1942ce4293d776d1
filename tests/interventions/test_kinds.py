"""What each kind does, beyond what all have in common."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mmie.errors import InputError
from mmie.interventions import FitData, build, load_intervention
from mmie.interventions.interface import base_weights_hash
from mmie.interventions.lora import target_modules
from mmie.interventions.reft import LoreftEdit, loreft, orthonormal_rows
from mmie.interventions.sae_clamp import Clamp
from mmie.models.hooks import disabled
from mmie.models.loading import load_model, save_model
from mmie.sae.pickers import choose_latents

# ---------------------------------------------------------------------------------------- weights


def test_the_oracle_arm_is_the_other_model(
    toy_model: Any, toy_data: FitData, fitted: Any, logits: Any
) -> None:
    assert toy_data.oracle is not None
    other, _ = load_model(toy_data.oracle)
    with fitted("oracle").applied(toy_model) as changed:
        assert torch.equal(logits(changed), logits(other))


def test_an_oracle_of_another_architecture_is_refused(
    tmp_path: Path, toy_model: Any, toy_data: FitData
) -> None:
    config = type(toy_model.config)(**{**toy_model.config.to_dict(), "intermediate_size": 48})
    (tmp_path / "wide").mkdir()
    save_model(type(toy_model)(config), toy_data.tokenizer, tmp_path / "wide")
    with pytest.raises(InputError, match="intermediate_size differ from the base"):
        build({"kind": "oracle"}).fit(toy_model, FitData(oracle=tmp_path / "wide"), seed=1)


def test_an_oracle_that_changed_since_the_fit_is_refused(
    toy_model: Any, toy_data: FitData, fitted: Any
) -> None:
    arm = fitted("oracle")
    save_model(toy_model, toy_data.tokenizer, toy_data.oracle)
    with pytest.raises(InputError, match="weights changed since the fit"), arm.applied(toy_model):
        pass


def test_noise_has_the_configured_share_of_each_matrix(toy_model: Any, fitted: Any) -> None:
    before = {name: value.detach().clone() for name, value in toy_model.named_parameters()}
    with fitted("noise", scale=0.5).applied(toy_model) as changed:
        for name, value in changed.named_parameters():
            noise = value - before[name]
            if value.ndim < 2:
                assert torch.equal(value, before[name])
            else:
                assert (noise.std() / before[name].std()).item() == pytest.approx(0.5, rel=0.15)


def test_noise_of_strength_zero_is_the_identity(toy_model: Any, fitted: Any, logits: Any) -> None:
    before = logits(toy_model)
    with fitted("noise", scale=0.0).applied(toy_model) as changed:
        assert torch.equal(logits(changed), before)


# ------------------------------------------------------------------------------------------- LoRA


def test_adapters_sit_exactly_where_the_config_says(toy_model: Any) -> None:
    found = target_modules(toy_model, [1], ["q_proj", "down_proj"])
    assert found == {
        "model.layers.1.self_attn.q_proj": [16, 16],
        "model.layers.1.mlp.down_proj": [32, 16],
    }
    with pytest.raises(InputError, match=r"no linear layer named \['query'\].*q_proj"):
        target_modules(toy_model, [0], ["q_proj", "query"])


def test_edited_layers_and_parameter_counts_are_recorded(fitted: Any) -> None:
    lora = fitted("lora", layers=[1], targets=["q_proj", "down_proj"]).fitted.facts
    assert lora["layers"] == [1]
    assert lora["parameters"] == 2 * (16 + 16) + 2 * (32 + 16)
    reft = fitted("reft").fitted.facts
    assert reft["layers"] == [1]
    assert reft["parameters"] == 2 * 16 * 3 + 3


def test_peft_itself_reads_a_saved_adapter(tmp_path: Path, toy_model: Any, fitted: Any, logits: Any) -> None:
    from peft import PeftModel

    arm = fitted("lora")
    with arm.applied(toy_model) as changed:
        expected = logits(changed)
    arm.save(tmp_path)
    theirs = PeftModel.from_pretrained(toy_model, str(tmp_path))
    assert torch.equal(logits(theirs), expected)


@pytest.mark.regression("TRN-31")
def test_without_peft_a_lora_arm_is_an_error(
    toy_model: Any, toy_data: FitData, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = base_weights_hash(toy_model)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match="the package peft is not installed"):
        build({"kind": "lora"}).fit(toy_model, toy_data, seed=1)
    assert base_weights_hash(toy_model) == weights


def test_an_adapter_switched_off_is_the_base(toy_model: Any, fitted: Any, logits: Any) -> None:
    before = logits(toy_model)
    with fitted("lora").applied(toy_model) as changed:
        with disabled(changed):
            assert torch.equal(logits(changed), before)
        assert not torch.equal(logits(changed), before)


# ------------------------------------------------------------------------------------------- ReFT


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loreft_starts_as_the_exact_identity(dtype: torch.dtype) -> None:
    edit = LoreftEdit(4, 16, torch.Generator().manual_seed(0))
    hidden = torch.randn(2, 5, 16, dtype=dtype)
    changed = edit(hidden, torch.ones(2, 5, dtype=torch.bool))
    assert changed.dtype == dtype
    assert torch.equal(changed, hidden)


def test_at_the_start_every_loreft_parameter_has_a_gradient() -> None:
    edit = LoreftEdit(4, 16, torch.Generator().manual_seed(0))
    hidden = torch.randn(3, 16)
    (edit(hidden, torch.ones(3)) * torch.randn(3, 16)).sum().backward()
    assert all(float(value.grad.norm()) > 0 for value in edit.parameters())


@pytest.mark.regression("SAE-29")
def test_after_training_rows_are_orthonormal_and_the_formula_holds(fitted: Any) -> None:
    tensors = fitted("reft").fitted.tensors
    Q, W, b = (tensors[f"layers.1.{name}"] for name in "QWb")
    assert float((Q @ Q.T - torch.eye(3)).norm()) < 1e-6
    hidden = torch.randn(7, 16)
    changed = loreft(hidden, Q, W, b)
    assert torch.allclose(changed, hidden + (hidden @ W.T + b - hidden @ Q.T) @ Q, atol=1e-5)
    assert torch.allclose(changed @ Q.T, hidden @ W.T + b, atol=1e-5)
    # Nothing outside the span of Q changes.
    outside = torch.eye(16) - Q.T @ Q
    assert torch.allclose(changed @ outside, hidden @ outside, atol=1e-5)


def test_a_row_never_comes_back_with_the_other_sign() -> None:
    Q = orthonormal_rows(torch.randn(4, 9, generator=torch.Generator().manual_seed(1)))
    assert torch.allclose(orthonormal_rows(Q), Q, atol=1e-6)


# -------------------------------------------------------------------------------------- SAE clamp


def clamp_of(sae: Any, latents: list[int], value: float, largest: float = 1e9) -> Clamp:
    chosen = torch.tensor(latents)
    return Clamp(sae, chosen, sae.decoder_rows(chosen), torch.full((len(latents),), value), largest)


@pytest.mark.regression("SAE-10")
def test_the_clamp_adds_the_difference_of_two_decodings(toy_sae: Any) -> None:
    hidden, chosen = torch.randn(2, 6, 16), [1, 4, 8, 11, 20]
    with torch.no_grad():
        changed = clamp_of(toy_sae, chosen, 1.5)(hidden, torch.ones(2, 6, dtype=torch.bool))
        codes = toy_sae.codes(hidden)
        clamped = codes.clone()
        selected = torch.zeros(24, dtype=torch.bool)
        selected[chosen] = True
        clamped[(codes > 0) & selected] = -1.5
        slow = clamped @ toy_sae.w_dec + (hidden - codes @ toy_sae.w_dec)
    assert float((changed - hidden).norm()) > 1
    assert torch.allclose(changed, slow, atol=1e-5)


@pytest.mark.regression("SAE-09")
def test_a_token_where_nothing_selected_fires_is_bit_identical(toy_sae: Any) -> None:
    hidden = torch.randn(4, 8, 16)
    with torch.no_grad():
        changed = clamp_of(toy_sae, [3, 6], 2.0)(hidden, torch.ones(4, 8, dtype=torch.bool))
        fires = (toy_sae.codes_of(hidden, torch.tensor([3, 6])) > 0).any(-1)
    assert bool(fires.any()) and not bool(fires.all())
    assert torch.equal(changed[~fires], hidden[~fires])
    assert not bool((changed[fires] == hidden[fires]).all(-1).any())


@pytest.mark.regression("SAE-10")
def test_strength_zero_is_the_identity(toy_model: Any, fitted: Any, logits: Any) -> None:
    before = logits(toy_model)
    with fitted("sae_clamp", strength=0.0).applied(toy_model) as changed:
        assert torch.equal(logits(changed), before)


@pytest.mark.regression("SAE-15")
def test_strength_counts_in_residual_norms(fitted: Any) -> None:
    arm = fitted("sae_clamp", strength=2.0)
    clamp = arm._edit("1", arm.fitted.facts["layers"]["1"], torch.device("cpu"))
    size = clamp.clamp * clamp.directions.norm(dim=1)
    assert size.tolist() == pytest.approx([2.0 * 0.1] * 3, abs=1e-6)


@pytest.mark.regression("SAE-16")
def test_the_clamp_keeps_the_type_of_the_stream(toy_sae: Any) -> None:
    hidden = torch.randn(2, 6, 16, dtype=torch.bfloat16)
    with torch.no_grad():
        changed = clamp_of(toy_sae, [1, 4], 1.0)(hidden, torch.ones(2, 6))
    assert changed.dtype == torch.bfloat16


def test_sinks_that_the_autoencoder_never_saw_are_left_alone(toy_sae: Any) -> None:
    hidden = torch.randn(1, 6, 16)
    hidden[0, 2] *= 100
    with torch.no_grad():
        changed = clamp_of(toy_sae, list(range(24)), 1.0, largest=50.0)(hidden, torch.ones(1, 6))
    assert torch.equal(changed[0, 2], hidden[0, 2])
    assert not torch.equal(changed[0, 3], hidden[0, 3])


def test_contrast_takes_the_highest_scores_and_random_none_of_them(latent_table: Any) -> None:
    assert choose_latents(latent_table, "contrast", 3, layer=1, seed=1) == [5, 2, 7]
    drawn = [choose_latents(latent_table, "random", 3, layer=1, seed=seed) for seed in range(6)]
    assert all(not set(draw) & {5, 2, 7} and len(set(draw)) == 3 for draw in drawn)
    assert len({tuple(draw) for draw in drawn}) > 1


@pytest.mark.regression("SAE-27")
def test_random_latents_fire_as_often_as_the_picked(latent_table: Any) -> None:
    rate = latent_table.set_index("latent")["rate_forget"]
    drawn = choose_latents(latent_table, "random", 3, layer=1, seed=4)
    assert rate[drawn].tolist() == pytest.approx(rate[[5, 2, 7]].tolist(), abs=0.011)


def test_too_few_latents_for_the_forget_language_is_an_error(latent_table: Any) -> None:
    with pytest.raises(InputError, match="4 latents of layer 1 score above 0, 5 are wanted"):
        choose_latents(latent_table, "contrast", 5, layer=1, seed=1)


def test_a_clamp_says_what_it_lacks(toy_model: Any) -> None:
    with pytest.raises(InputError, match="Run the sae stage first"):
        build({"kind": "sae_clamp"}).fit(toy_model, FitData(), seed=1)


def test_an_autoencoder_of_another_model_is_refused(toy_model: Any, toy_data: FitData) -> None:
    with torch.no_grad():
        toy_model.model.norm.weight[0] += 1
    with pytest.raises(InputError, match=r"metadata\.model_hash"):
        build({"kind": "sae_clamp", "features": 3}).fit(toy_model, toy_data, seed=1)


def test_a_saved_clamp_needs_no_autoencoder(
    tmp_path: Path, toy_model: Any, toy_data: FitData, fitted: Any, logits: Any
) -> None:
    import shutil

    arm = fitted("sae_clamp")
    with arm.applied(toy_model) as changed:
        expected = logits(changed)
    arm.save(tmp_path / "arm")
    shutil.rmtree(toy_data.sae)
    with load_intervention(tmp_path / "arm").applied(toy_model) as changed:
        assert torch.equal(logits(changed), expected)
