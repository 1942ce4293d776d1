"""What holds for every kind of intervention."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmie.errors import InputError
from mmie.interventions import KINDS, FitData, assert_restored, build, load_intervention, probe_hash
from mmie.interventions.interface import base_weights_hash, default_probe
from mmie.io import read_json, read_safetensors, write_json, write_safetensors
from mmie.models.generation import decode_greedily, generate_greedy
from mmie.models.hooks import hook_count

EVERY = sorted(KINDS)
ACTING = [kind for kind in EVERY if kind != "none"]
WITH_TENSORS = [kind for kind in EVERY if kind not in ("none", "oracle", "noise", "prompt_only")]


@pytest.mark.regression("SAE-24")
@pytest.mark.parametrize("kind", EVERY)
def test_the_base_is_bit_identical_after_an_arm(kind: str, toy_model: Any, fitted: Any, logits: Any) -> None:
    before, weights = logits(toy_model), base_weights_hash(toy_model)
    modules = [name for name, _ in toy_model.named_modules()]
    flags = [value.requires_grad for value in toy_model.parameters()]
    arm = fitted(kind)
    assert torch.equal(logits(toy_model), before)
    with assert_restored(toy_model), arm.applied(toy_model) as changed:
        during = logits(changed)
    assert torch.equal(during, before) == (kind == "none")
    assert torch.equal(logits(toy_model), before)
    assert base_weights_hash(toy_model) == weights
    assert [name for name, _ in toy_model.named_modules()] == modules
    assert [value.requires_grad for value in toy_model.parameters()] == flags


@pytest.mark.regression("SAE-24", "MEM-02")
@pytest.mark.parametrize("kind", EVERY)
def test_an_arm_that_raises_half_way_leaves_no_trace(kind: str, toy_model: Any, fitted: Any) -> None:
    arm = fitted(kind)
    gc.collect()
    models = sum(isinstance(thing, type(toy_model)) for thing in gc.get_objects())
    before = probe_hash(toy_model, default_probe(toy_model))
    with pytest.raises(KeyError), arm.applied(toy_model):
        raise KeyError("half way")
    assert hook_count(toy_model) == 0
    assert probe_hash(toy_model, default_probe(toy_model)) == before
    assert not hasattr(toy_model, "peft_config")
    gc.collect()
    assert sum(isinstance(thing, type(toy_model)) for thing in gc.get_objects()) == models


@pytest.mark.regression("RES-01")
@pytest.mark.parametrize("kind", EVERY)
def test_a_loaded_arm_computes_what_the_fitted_one_did(
    kind: str, tmp_path: Path, toy_model: Any, fitted: Any, logits: Any
) -> None:
    arm = fitted(kind)
    with arm.applied(toy_model) as changed:
        expected = logits(changed)
    arm.save(tmp_path / "arm")
    loaded = load_intervention(tmp_path / "arm")
    assert type(loaded) is KINDS[kind]
    assert loaded.options() == arm.options()
    with loaded.applied(toy_model) as changed:
        assert torch.equal(logits(changed), expected)


@pytest.mark.regression("RES-01", "RES-02")
@pytest.mark.parametrize("damage", ["missing", "extra", "renamed", "shape", "no file"])
@pytest.mark.parametrize("kind", WITH_TENSORS)
def test_tensors_that_do_not_fit_are_an_error(kind: str, damage: str, tmp_path: Path, fitted: Any) -> None:
    arm = fitted(kind)
    arm.save(tmp_path)
    file = tmp_path / arm.tensor_file
    tensors = read_safetensors(file)
    first = sorted(tensors)[0]
    if damage == "missing":
        tensors["left"] = tensors.pop(first) * 0
    elif damage == "extra":
        tensors["stowaway"] = torch.zeros(1)
    elif damage == "renamed":
        tensors[f"{first}.default"] = tensors.pop(first)
    elif damage == "shape":
        tensors[first] = torch.cat([tensors[first], tensors[first]])
    write_safetensors(file, tensors)
    if damage == "no file":
        file.unlink()
    with pytest.raises(InputError, match=file.name.replace(".", r"\.")):
        load_intervention(tmp_path)


@pytest.mark.regression("RES-02")
@pytest.mark.parametrize("kind", ["lora", "reft"])
def test_another_rank_is_an_error(kind: str, tmp_path: Path, fitted: Any) -> None:
    fitted(kind).save(tmp_path)
    content = read_json(tmp_path / "intervention.json")
    content["options"]["rank"] += 1
    write_json(tmp_path / "intervention.json", content)
    with pytest.raises(InputError, match="shape"):
        load_intervention(tmp_path)


@pytest.mark.parametrize("kind", ACTING)
def test_an_arm_of_another_base_is_refused(kind: str, toy_model: Any, fitted: Any) -> None:
    arm = fitted(kind)
    other = copy.deepcopy(toy_model)
    with torch.no_grad():
        other.model.norm.weight[0] += 1
    with pytest.raises(InputError, match="another base model"), arm.applied(other):
        pass


STATEFUL = [("sae_clamp", {"gate": gate}) for gate in ("dsg", "window", "cusum", "language")]
ARMS = [*((kind, {}) for kind in EVERY), *STATEFUL, ("subspace", {"baked": True})]


@pytest.mark.parametrize(("kind", "options"), ARMS)
def test_a_padded_batch_generates_what_single_prompts_do(
    kind: str, options: dict[str, Any], talkative: Any, toy_data: FitData, fitted: Any
) -> None:
    prompts = ["w5 w6 w7 w8 w9", "w20", "w31 w32 w33", "w40 w41", "w12 w50 w13 w51"]
    found = []
    with fitted(kind, **options).applied(talkative) as changed:
        for batch_size in (1, 5):
            found.append(
                generate_greedy(changed, toy_data.tokenizer, prompts, max_new_tokens=6, batch_size=batch_size)
            )
    assert found[0] == found[1]
    if kind != "oracle":  # whose head is tied: it repeats itself
        assert max(len(set(text.split())) for text in found[0]) > 2


@pytest.mark.parametrize(("kind", "options"), ARMS)
def test_rows_that_leave_a_batch_leave_what_an_arm_remembers_of_them_too(
    kind: str, options: dict[str, Any], talkative: Any, toy_data: FitData, fitted: Any
) -> None:
    # A third of the words end a text, so texts end after different numbers of tokens.
    talkative.generation_config.eos_token_id = [2, *range(4, 64, 3)]
    prompts = [f"w{5 + number} w{20 + number} w{50 - 3 * number}" for number in range(12)]
    prompts[3], prompts[7] = "w30", "w6 w7 w8 w9 w10 w11"
    found = []
    with fitted(kind, **options).applied(talkative) as changed:
        for batch_size in (1, 12):
            found.append(
                decode_greedily(changed, toy_data.tokenizer, prompts, max_new_tokens=8, batch_size=batch_size)
            )
    assert found[0] == found[1]
    if kind in ("none", "lora", "sae_clamp", "prompt_only"):
        assert len({8, *found[0].n_tokens}) > 2


@pytest.mark.parametrize(("kind", "options"), ARMS)
def test_a_padded_batch_is_as_likely_as_single_rows(
    kind: str, options: dict[str, Any], talkative: Any, toy_data: FitData, fitted: Any
) -> None:
    from mmie.training.reference import reference_log_likelihoods

    rows = toy_data.retain
    assert rows is not None
    with fitted(kind, **options).applied(talkative) as changed:
        together, alone = (
            reference_log_likelihoods(changed, toy_data.tokenizer, rows, batch_size=size)["nll_sum"].tolist()
            for size in (32, 1)
        )
    assert together == pytest.approx(alone, abs=1e-4)


@pytest.mark.regression("SAE-16")
@pytest.mark.parametrize(("kind", "options"), [arm for arm in ARMS if arm[0] != "oracle"])
def test_a_half_precision_model_stays_one(
    kind: str, options: dict[str, Any], toy_model: Any, toy_data: FitData, fitted: Any, logits: Any
) -> None:
    from .conftest import resave_sae

    toy_model.to(torch.bfloat16)
    resave_sae(toy_data, toy_model)
    arm = fitted(kind, **options)
    before = logits(toy_model)
    with arm.applied(toy_model) as changed:
        assert logits(changed).dtype == torch.bfloat16
    assert torch.equal(logits(toy_model), before)


@pytest.mark.regression("SAE-26")
def test_only_arms_that_draw_or_train_have_seeds(fitted: Any) -> None:
    seeded = {kind: fitted(kind).seeded for kind in EVERY}
    assert seeded == {
        "none": False,
        "oracle": False,
        "noise": True,
        "lora": True,
        "reft": True,
        "sae_clamp": False,
        "diff_means": False,
        "leace": False,
        "script_scrub": False,
        "subspace": False,
        "language_neurons": False,
        "prompt_only": False,
        "combined": True,
        "full": True,
        "task_vector": True,
        "rmu": True,
        "negative_reft": True,
        "gated_reft": True,
        "lingtea": True,
        "crisp": True,
        "contrastive": True,
    }
    assert fitted("sae_clamp", picker="random").seeded
    assert fitted("diff_means", direction="random").seeded
    assert fitted("leace", shuffled=True).seeded
    assert fitted("subspace", layers="random").seeded
    assert fitted("language_neurons", picker="random").seeded


@pytest.mark.parametrize("kind", ["noise", "lora", "reft"])
def test_a_seed_decides_an_arm(kind: str, toy_model: Any, fitted: Any, logits: Any) -> None:
    results = []
    for seed in (1, 1, 2):
        with fitted(kind, seed=seed).applied(toy_model) as changed:
            results.append(logits(changed))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_an_arm_that_was_not_fitted_is_refused(toy_model: Any) -> None:
    with pytest.raises(InputError, match="not fitted"), build({"kind": "none"}).applied(toy_model):
        pass


def test_unknown_kinds_and_options_are_named() -> None:
    with pytest.raises(InputError, match=r"unknown kind 'lorra'.*Did you mean 'lora'"):
        build({"kind": "lorra"})
    with pytest.raises(InputError, match="unknown option 'rang'"):
        build({"kind": "lora", "rang": 8})
    with pytest.raises(InputError, match=r"training\.stepz: unknown key"):
        build({"kind": "reft", "training": {"stepz": 8}})


@pytest.mark.parametrize("layers", ["selected", [2], [-1], []])
def test_layers_that_the_model_lacks_are_refused(layers: Any, toy_model: Any, toy_data: FitData) -> None:
    from dataclasses import replace

    arm = build({"kind": "reft", "layers": layers})
    with pytest.raises(InputError, match="for a model of 2 blocks"):
        arm.fit(toy_model, replace(toy_data, layers=()), seed=1)


def test_a_leak_is_found(toy_model: Any) -> None:
    original = toy_model.model.norm.weight.detach().clone()
    with pytest.raises(RuntimeError, match="probe logits differ"), assert_restored(toy_model):
        toy_model.model.norm.weight.data[0] += 0.5
    toy_model.model.norm.weight.data = original


@pytest.mark.regression("TRN-02")
@pytest.mark.parametrize("kind", ["lora", "reft"])
def test_a_trained_arm_raises_the_loss_of_what_it_forgets(
    kind: str, toy_model: Any, toy_data: FitData, fitted: Any
) -> None:
    from mmie.training.reference import reference_log_likelihoods

    assert toy_data.forget is not None and toy_data.reference is not None
    training = {"steps": 25, "learning_rate": 0.05, "forget_batch": 6, "retain_batch": 6}
    with fitted(kind, training=training).applied(toy_model) as changed:
        after = reference_log_likelihoods(changed, toy_data.tokenizer, toy_data.forget)
    assert after["nll_sum"].mean() > toy_data.reference["nll_sum"].mean() + 0.1


@pytest.mark.regression("MEM-01")
@pytest.mark.parametrize("kind", ["lora", "reft"])
def test_training_reads_the_reference_from_the_same_weights(
    kind: str, toy_model: Any, toy_data: FitData, logits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Switched off in mid-training, the arm is the base bit for bit, and no second model is alive."""
    from mmie.models.hooks import disabled
    from mmie.training import loop

    from .conftest import OPTIONS

    base, seen = logits(toy_model), []
    original: Callable[..., Any] = loop.take_step

    def looking(model: Any, *rest: Any) -> Any:
        with disabled(model):
            same = torch.equal(logits(model), base)
        gc.collect()
        alive = sum(isinstance(thing, type(toy_model)) for thing in gc.get_objects())
        seen.append((same, torch.equal(logits(model), base), alive))
        return original(model, *rest)

    monkeypatch.setattr(loop, "take_step", looking)
    build({"kind": kind, **OPTIONS[kind]}).fit(toy_model, toy_data, seed=1)
    gc.collect()
    assert seen[0] == (True, True, 1), "step 0 is the reference"
    assert all(entry == (True, False, 1) for entry in seen[1:])


def test_missing_training_data_is_said(toy_model: Any) -> None:
    with pytest.raises(InputError, match="training needs a tokenizer, forget rows and retain rows"):
        build({"kind": "reft", "layers": "all"}).fit(toy_model, FitData(), seed=1)
