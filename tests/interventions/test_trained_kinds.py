"""What holds for every arm that is trained, and what each of the kinds does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mmie.interventions.trained as trained
import mmie.training.loop as loop
from mmie.contrastive.representation import head_shapes
from mmie.errors import InputError
from mmie.interventions import FitData, assert_restored, build, load_intervention
from mmie.interventions.deltas import moved, trainable_deltas, weight_names
from mmie.interventions.interface import base_weights_hash
from mmie.interventions.rmu import control_vector
from mmie.io import read_safetensors
from mmie.models.hooks import capture, disabled
from mmie.training.batches import Examples
from mmie.training.reference import answer_sums
from tests.interventions.conftest import OPTIONS, TRAINING

HEAD = {"contrast": {"batch": 4, "head": True, "collapse_limit": 2.0}}
VARIED: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {}),
    "dora": ("lora", {"dora": True}),
    "loreft": ("reft", {}),
    "noreft": ("reft", {"variant": "noreft"}),
    "direft": ("reft", {"variant": "direft"}),
    "negative reft": ("negative_reft", {"strength": 1.0}),
    "gated reft": (
        "gated_reft",
        {"sparsity": 0.1, "training": {**TRAINING, "learning_rate": 0.1, "steps": 20}},
    ),
    "lingtea": ("lingtea", {"temperature": 2.0}),
    "crisp": ("crisp", {"lift": 2.0}),
    "full": ("full", {}),
    "full, one block": ("full", {"layers": [1]}),
    "task vector": ("task_vector", {}),
    "rmu": ("rmu", {"adaptive": False, "coefficient": 2.0}),
    "adaptive rmu": ("rmu", {}),
    "contrastive": ("contrastive", {}),
    "contrastive with a head": (
        "contrastive",
        {"contrast": {"batch": 4, "head": True, "collapse_limit": 2.0}},
    ),
}
"""Every trained kind and variant: kind, options."""


def forget_nll(model: Any, data: FitData) -> float:
    assert data.forget is not None
    return sum(answer_sums(model, Examples.from_rows(data.forget, data.tokenizer)))


@pytest.fixture
def trained_names(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the parameters that a fit is about to train, filled by the fit."""
    names: set[str] = set()
    original = loop.train

    def recording(model: Any, parameters: Mapping[str, Any], *rest: Any, **more: Any) -> Any:
        names.update(parameters)
        return original(model, parameters, *rest, **more)

    monkeypatch.setattr("mmie.interventions.trained.train", recording)
    return names


@pytest.mark.parametrize("name", VARIED)
def test_a_trained_arm_makes_known_forget_answers_less_likely(
    name: str, knowing: tuple[Any, FitData]
) -> None:
    kind, options = VARIED[name]
    model, data = knowing
    before = forget_nll(model, data) / 12
    assert before < 1.0
    arm = build({"kind": kind, **OPTIONS[kind], **options})
    arm.fit(model, data, seed=1)
    with arm.applied(model) as changed:
        assert forget_nll(changed, data) / 12 > before + 0.002
    assert forget_nll(model, data) / 12 == before


@pytest.mark.regression("RES-01")
@pytest.mark.parametrize("name", VARIED)
def test_every_variant_is_saved_and_loaded_whole(
    name: str, tmp_path: Path, toy_model: Any, fitted: Any, logits: Any
) -> None:
    kind, options = VARIED[name]
    base = logits(toy_model)
    arm = fitted(kind, **options)
    with assert_restored(toy_model), arm.applied(toy_model) as changed:
        expected = logits(changed)
    arm.save(tmp_path)
    loaded = load_intervention(tmp_path)
    assert loaded.options() == arm.options()
    with loaded.applied(toy_model) as changed:
        assert torch.equal(logits(changed), expected)
    assert not torch.equal(expected, base)
    assert torch.equal(logits(toy_model), base)


PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
               "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip
ADAPTED = [f"base_model.model.model.layers.{layer}.{part}" for layer in (0, 1) for part in PROJECTIONS]
WEIGHTS = [
    *(f"model.layers.{layer}.{part}.weight" for layer in (0, 1) for part in PROJECTIONS),
    *(
        f"model.layers.{layer}.{part}.weight"
        for layer in (0, 1)
        for part in ("input_layernorm", "post_attention_layernorm")
    ),
    "model.embed_tokens.weight",
    "model.norm.weight",
]
EXPECTED: dict[str, set[str]] = {
    "lora": {f"{name}.lora_{side}.weight" for name in ADAPTED for side in "AB"},
    "dora": {f"{name}.lora_{side}.weight" for name in ADAPTED for side in "AB"}
    | {f"{name}.lora_magnitude_vector" for name in ADAPTED},
    "crisp": {f"{name}.lora_{side}.weight" for name in ADAPTED for side in "AB"},
    "loreft": {"layers.1.free", "layers.1.W", "layers.1.b"},
    "full": set(WEIGHTS),
    "full, one block": {name for name in WEIGHTS if ".layers.1." in name},
    "task vector": set(WEIGHTS),
    "adaptive rmu": {f"model.layers.{layer}.mlp.down_proj.weight" for layer in (0, 1)},
    "contrastive with a head": {f"{name}.lora_{side}.weight" for name in ADAPTED for side in "AB"}
    | set(head_shapes(16)),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_trained_is_the_expected_set_by_name(
    name: str, toy_model: Any, fitted: Any, trained_names: set[str]
) -> None:
    kind, options = VARIED[name]
    fitted(kind, **options)
    assert trained_names == EXPECTED[name]


@pytest.mark.parametrize("kind", ["full", "task_vector", "rmu", "contrastive"])
def test_an_arm_that_does_not_move_is_an_error(
    kind: str, fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    with pytest.raises(RuntimeError, match="training moved nothing"):
        fitted(kind)


@contextmanager
def counted_steps(monkeypatch: pytest.MonkeyPatch, last: int | None = None) -> Iterator[list[int]]:
    """One entry a step of the loop; after `last` of them the run is interrupted."""
    original, steps = loop.take_step, []

    def counted(*arguments: Any) -> Any:
        if len(steps) == last:
            raise KeyboardInterrupt
        steps.append(1)
        return original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "take_step", counted)
        yield steps


@pytest.mark.parametrize(
    "name", ["dora", "direft", "gated reft", "crisp", "full", "task vector", "rmu", "contrastive with a head"]
)
def test_a_killed_fit_ends_with_the_same_bytes(
    name: str, tmp_path: Path, toy_model: Any, toy_data: FitData, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, options = VARIED[name]
    block = {"kind": kind, **OPTIONS[kind], **options}
    whole = build(block)
    whole.fit(toy_model, toy_data, seed=1)
    data = replace(toy_data, checkpoints=tmp_path)
    with pytest.raises(KeyboardInterrupt), counted_steps(monkeypatch, 4):
        build(block).fit(toy_model, data, seed=1)
    resumed = build(block)
    resumed.fit(toy_model, data, seed=1)
    assert whole.fitted is not None and resumed.fitted is not None
    assert all(torch.equal(resumed.fitted.tensors[key], value) for key, value in whole.fitted.tensors.items())
    assert whole.history is not None and whole.history.equals(resumed.history)
    if kind == "contrastive":
        assert all(torch.equal(resumed.head[key], value) for key, value in whole.head.items())


@pytest.mark.parametrize("edited", [False, True])
def test_a_checkpoint_of_edited_code_is_not_gone_on_with(
    edited: bool, tmp_path: Path, toy_model: Any, toy_data: FitData, monkeypatch: pytest.MonkeyPatch
) -> None:
    block, data = {"kind": "full", **OPTIONS["full"]}, replace(toy_data, checkpoints=tmp_path)
    with pytest.raises(KeyboardInterrupt), counted_steps(monkeypatch, 4):
        build(block).fit(toy_model, data, seed=1)
    if edited:
        monkeypatch.setattr(trained, "code_hash", lambda: "of edited files")
    finished = build(block)
    with counted_steps(monkeypatch) as steps:
        finished.fit(toy_model, data, seed=1)
    assert finished.history is not None
    assert len(steps) == len(finished.history) - (0 if edited else 4)


# ------------------------------------------------------------------------------- changes of weights


def test_weights_beside_which_changes_are_trained_stay_what_they_are(toy_model: Any, logits: Any) -> None:
    before, weights = logits(toy_model), base_weights_hash(toy_model)
    own = {name: value for name, value in toy_model.named_parameters()}
    with trainable_deltas(toy_model, weight_names(toy_model, None, None)) as deltas:
        assert torch.equal(logits(toy_model), before)
        with torch.no_grad():
            for delta in deltas.values():
                delta.add_(0.05)
        during = logits(toy_model)
        with disabled(toy_model):
            assert torch.equal(logits(toy_model), before)
        changes = {name: value.detach().clone() for name, value in deltas.items()}
    assert not torch.equal(during, before)
    assert torch.equal(logits(toy_model), before)
    assert base_weights_hash(toy_model) == weights
    assert all(own[name] is value for name, value in toy_model.named_parameters())
    assert toy_model.lm_head.weight is toy_model.model.embed_tokens.weight
    with moved(toy_model, changes):
        assert torch.equal(logits(toy_model), during)


def test_weights_of_a_name_that_no_block_has_are_refused(toy_model: Any) -> None:
    with pytest.raises(InputError, match=r"no weights named \['c_proj'\].*down_proj"):
        weight_names(toy_model, [0], ["c_proj", "down_proj"])


def test_a_task_vector_goes_the_other_way_and_back(
    toy_model: Any, toy_data: FitData, fitted: Any, logits: Any
) -> None:
    arm, base = fitted("task_vector"), logits(toy_model)
    start = forget_nll(toy_model, toy_data)
    with arm.at_strength(0.0).applied(toy_model) as changed:
        assert torch.equal(logits(changed), base)
    with arm.at_strength(-1.0).applied(toy_model) as changed:
        assert forget_nll(changed, toy_data) < start
    with arm.at_strength(0.5).applied(toy_model) as changed:
        weight = changed.model.norm.weight.detach().clone()
    delta = arm.fitted.tensors["model.norm.weight"]
    assert torch.allclose(weight, toy_model.model.norm.weight - 0.5 * delta)


# ------------------------------------------------------------------------------------------- RMU


def test_control_vectors_point_anywhere_and_are_saved(tmp_path: Path, fitted: Any) -> None:
    drawn = torch.stack([control_vector(400, seed) for seed in range(40)])
    assert torch.allclose(drawn.norm(dim=1), torch.ones(40))
    cosines = drawn @ drawn.T - torch.eye(40)
    # Uniform draws from [0, 1) would have a mean cosine of 0.75.
    assert abs(float(cosines.sum()) / (40 * 39)) < 0.02
    arm = fitted("rmu")
    arm.save(tmp_path)
    assert torch.equal(
        read_safetensors(tmp_path / "delta.safetensors")["control_vector"], control_vector(16, 1)
    )


@pytest.mark.parametrize("adaptive", [False, True])
def test_rmu_turns_the_stream_at_forget_answers_to_the_control_vector(
    adaptive: bool, toy_model: Any, toy_data: FitData, fitted: Any
) -> None:
    assert toy_data.forget is not None
    batch = Examples.from_rows(toy_data.forget, toy_data.tokenizer).batch(range(12))
    u = control_vector(16, 1)

    def alignment(model: Any) -> float:
        with torch.no_grad(), capture(model, [1]) as seen:
            model(**batch.inputs())
        hidden: Tensor = seen.hidden[1][:, :-1][batch.answer_mask[:, 1:]]
        return float(torch.nn.functional.cosine_similarity(hidden, u.expand_as(hidden), dim=-1).mean())

    before = alignment(toy_model)
    arm = fitted("rmu", adaptive=adaptive, coefficient=2.0)
    with arm.applied(toy_model) as changed:
        assert alignment(changed) > before + 0.05
    assert arm.history["forget_loss"].iloc[-1] < arm.history["forget_loss"].iloc[0]
    assert arm.fitted.facts["layer"] == 1


def test_the_rmu_loss_at_the_base_is_the_hand_value(toy_model: Any, toy_data: FitData) -> None:
    from mmie.interventions.rmu import RmuTerm

    assert toy_data.forget is not None
    examples = Examples.from_rows(toy_data.forget.head(1), toy_data.tokenizer)
    item = examples.encoded[0]
    u = control_vector(16, 3)
    with torch.no_grad(), capture(toy_model, [0]) as seen:
        toy_model(input_ids=torch.tensor([item.ids]))
    hidden = seen.hidden[0][0, item.answer_start - 1 : -1]
    for adaptive in (False, True):
        length = 4.0 * hidden.norm(dim=-1, keepdim=True) if adaptive else 4.0
        term = RmuTerm(toy_model, examples, 0, u, 4.0, adaptive=adaptive)
        expected = float(((hidden - length * u) ** 2).sum()) / 16
        assert term.sums([0])[0].item() == pytest.approx(expected, rel=1e-5)
        assert term.count([0]) == len(hidden)
