"""The contrastive arm: its head, its controls, what it records."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
import torch

import mmie.contrastive
from mmie.contrastive.representation import head_shapes
from mmie.errors import InputError
from mmie.interventions import FitData, build, load_intervention
from mmie.io import read_json, read_safetensors
from mmie.models.generation import generate_greedy
from mmie.models.hooks import edit
from mmie.training.batches import Examples
from mmie.training.early_stopping import Stopper, joint_criterion
from mmie.training.reference import answer_sums
from mmie.training.sets import HeldOut
from mmie.training.settings import EarlyStopping
from tests.interventions.conftest import OPTIONS, TRAINING

HEAD = {"contrast": {"batch": 4, "head": True, "collapse_limit": 2.0}}


@pytest.mark.regression("CON-07")
def test_the_head_is_not_on_the_generation_path(tmp_path: Path, toy_data: FitData, talkative: Any) -> None:
    assert toy_data.forget is not None
    arm = build({"kind": "contrastive", **OPTIONS["contrastive"], **HEAD})
    arm.fit(talkative, toy_data, seed=1)
    prompts = toy_data.forget["prompt"].tolist()

    def written(chosen: Any) -> list[str]:
        with chosen.applied(talkative) as changed:
            return generate_greedy(changed, toy_data.tokenizer, prompts, max_new_tokens=4, batch_size=6)

    texts = written(arm)
    arm.head = {name: torch.zeros_like(value) for name, value in arm.head.items()}  # type: ignore[attr-defined]
    assert written(arm) == texts
    plain = generate_greedy(talkative, toy_data.tokenizer, prompts, max_new_tokens=4, batch_size=6)
    assert texts != plain


@pytest.mark.regression("CON-08", "RES-04")
@pytest.mark.parametrize("damage", ["lost", "changed", "shape"])
def test_a_head_that_is_not_the_saved_one_is_refused(damage: str, tmp_path: Path, fitted: Any) -> None:
    from mmie.io import write_safetensors

    arm = fitted("contrastive", **HEAD)
    arm.save(tmp_path)
    file = tmp_path / "head.safetensors"
    tensors = read_safetensors(file)
    assert set(tensors) == set(head_shapes(16))
    if damage == "lost":
        file.unlink()
    elif damage == "changed":
        write_safetensors(file, tensors | {"head.0.bias": tensors["head.0.bias"] + 1})
    else:
        write_safetensors(file, tensors | {"head.0.bias": torch.zeros(3)})
    with pytest.raises(InputError, match=r"head\.safetensors"):
        load_intervention(tmp_path)


@pytest.mark.regression("CON-09")
def test_a_head_that_meets_the_loss_alone_is_reported_as_decorative(
    toy_model: Any, fitted: Any, logits: Any
) -> None:
    base = logits(toy_model)
    arm = fitted("contrastive", head_only=True, training={**TRAINING, "steps": 30}, **HEAD)
    facts = arm.fitted.facts
    assert facts["geometry"]["contrast_loss"] < facts["base_geometry"]["contrast_loss"]
    assert facts["geometry"]["discrimination"] == facts["base_geometry"]["discrimination"]
    assert facts["decorative"] is True
    assert arm.fitted.tensors == {}
    with arm.applied(toy_model) as changed:
        assert torch.equal(logits(changed), base)


@pytest.mark.regression("CON-10")
def test_a_constant_representation_is_never_the_chosen_step(knowing: tuple[Any, FitData]) -> None:
    model, data = knowing
    forget, retain = (Examples.from_rows(rows, data.tokenizer) for rows in (data.forget, data.retain))
    held_out = HeldOut(forget, answer_sums(model, forget), retain)
    stopper = Stopper(EarlyStopping())
    stopper.record(1, joint_criterion(model, held_out, batch_size=12), {})
    with edit(model, {1: lambda hidden, keep: torch.ones_like(hidden)}):
        value = joint_criterion(model, held_out, batch_size=12)
    stopper.record(2, value, {})
    assert value < stopper.best_value == pytest.approx(0, abs=1e-6)
    assert stopper.best_step == 1


def test_without_contrast_the_same_triples_are_still_trained_on(fitted: Any) -> None:
    arm = fitted("contrastive", contrast={"batch": 4, "weight": 0.0, "collapse_limit": 2.0})
    assert (arm.history["contrast_weight"] == 0).all()
    assert arm.history["refusal_nll"].iloc[-1] < arm.history["refusal_nll"].iloc[0]
    assert arm.fitted.facts["decorative"] is False


@pytest.mark.regression("CON-13")
def test_no_class_of_the_contrastive_arm_is_without_use(fitted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = [
        import_module(f"mmie.contrastive.{found.name}") for found in iter_modules(mmie.contrastive.__path__)
    ]
    classes = {
        thing
        for module in modules
        for thing in vars(module).values()
        if isinstance(thing, type) and thing.__module__.startswith("mmie.contrastive")
    }
    built = set()

    def recorded(chosen: type) -> None:
        original = chosen.__init__

        def start(self: Any, *arguments: Any, **more: Any) -> None:
            built.add(chosen)
            original(self, *arguments, **more)

        monkeypatch.setattr(chosen, "__init__", start)

    for chosen in classes:
        recorded(chosen)
    fitted("contrastive", **HEAD)
    fitted("contrastive", head_only=True, **HEAD)
    assert built == classes and len(classes) > 5


@pytest.mark.parametrize("shuffled", [None, "counterfactual", "adversarial"])
def test_every_control_is_another_arm(shuffled: str | None, toy_model: Any, fitted: Any, logits: Any) -> None:
    plain, other = fitted("contrastive"), fitted("contrastive", shuffled=shuffled)
    with plain.applied(toy_model) as changed:
        expected = logits(changed)
    with other.applied(toy_model) as changed:
        assert torch.equal(logits(changed), expected) == (shuffled is None)


def test_the_saved_arm_says_which_options_and_geometry_it_had(tmp_path: Path, fitted: Any) -> None:
    arm = fitted("contrastive")
    arm.save(tmp_path)
    content = read_json(tmp_path / "intervention.json")
    assert content["options"]["contrast"]["weight"] == 0.1
    assert content["fitted"]["triples"] == 8
    assert set(content["fitted"]["geometry"]) == {
        "cos_ap", "cos_ax", "discrimination", "anchor_similarity", "effective_rank", "contrast_loss",
    }  # fmt: skip


def test_a_contrastive_arm_without_triples_is_an_error(toy_model: Any) -> None:
    with pytest.raises(InputError, match="no triples were given"):
        build({"kind": "contrastive"}).fit(toy_model, FitData(), seed=1)
    with pytest.raises(InputError, match="head_only trains the head"):
        build({"kind": "contrastive", "head_only": True})
