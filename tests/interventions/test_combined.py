"""Arms in force together, and the factorial design that they are for."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mmie.configuration import DEFAULT_FILE, read_configuration
from mmie.errors import InputError
from mmie.interventions import FitData, assert_restored, build, load_intervention, probe_hash
from mmie.interventions.interface import default_probe
from mmie.models.hooks import hook_count

from .conftest import PARTS


@pytest.fixture
def cells(toy_model: Any, toy_data: FitData, fitted: Any, tmp_path: Path) -> dict[str, Any]:
    """The four cells: none, each part alone, both."""
    both = fitted("combined")
    none = build({"kind": "none"})
    none.fit(toy_model, toy_data, seed=1)
    alone = {name: load_intervention(tmp_path / "parts" / name / "seed1") for name in PARTS}
    return {"none": none, **alone, "both": both}


@pytest.mark.regression("SAE-30")
def test_the_part_in_both_is_the_part_alone_to_the_last_bit(cells: dict[str, Any]) -> None:
    saved = cells["both"].fitted.facts["parts"]
    for name in PARTS:
        assert saved[name]["options"] == cells[name].options()
        assert saved[name]["fitted"] == cells[name].fitted.facts
        own = cells[name].fitted.tensors
        assert own
        for key, tensor in own.items():
            assert torch.equal(cells["both"].fitted.tensors[f"{name}/{key}"], tensor)


@pytest.mark.regression("SAE-30")
def test_both_parts_are_in_force_and_both_are_undone(
    toy_model: Any, cells: dict[str, Any], logits: Any
) -> None:
    found = {}
    for name, arm in cells.items():
        with assert_restored(toy_model), arm.applied(toy_model) as changed:
            found[name] = logits(changed)
    # The truth by another route: one part inside the other, each by its own `with` statement.
    with cells["adapter"]._attach(toy_model) as first, cells["gate"]._attach(first) as second:
        expected = logits(second)
    assert torch.equal(found["both"], expected)
    assert torch.equal(found["none"], logits(toy_model))
    same = [(a, b) for a, b in combinations(found, 2) if torch.equal(found[a], found[b])]
    assert same == []
    assert hook_count(toy_model) == 0 and not hasattr(toy_model, "peft_config")


def test_an_exception_inside_undoes_both(toy_model: Any, cells: dict[str, Any]) -> None:
    before = probe_hash(toy_model, default_probe(toy_model))
    with pytest.raises(KeyError), cells["both"].applied(toy_model):
        raise KeyError("half way")
    assert probe_hash(toy_model, default_probe(toy_model)) == before
    assert hook_count(toy_model) == 0


def test_the_last_part_is_outermost(toy_model: Any, toy_data: FitData, tmp_path: Path, logits: Any) -> None:
    """Two edits of one block do not commute: steering survives an ablation only if it comes later."""
    ablate = build({"kind": "diff_means", "operation": "ablate"})
    steer = build({"kind": "diff_means", "operation": "steer", "strength": 3.0})
    folders = {"ablate": tmp_path / "a", "steer": tmp_path / "s"}
    for arm, folder in zip((ablate, steer), folders.values(), strict=True):
        arm.fit(toy_model, toy_data, seed=1)
        arm.save(folder)
    found = {}
    for order in (["ablate", "steer"], ["steer", "ablate"]):
        both = build({"kind": "combined", "parts": order})
        both.fit(toy_model, replace(toy_data, parts=folders), seed=1)
        assert not both.seeded
        with both.applied(toy_model) as changed:
            found[order[-1]] = logits(changed)
    with ablate.applied(toy_model) as changed:
        alone = logits(changed)
    assert torch.allclose(found["ablate"], alone, atol=1e-5)
    assert not torch.allclose(found["steer"], alone, atol=1e-3)


def test_a_part_that_changes_weights_must_come_first(
    toy_model: Any, toy_data: FitData, fitted: Any, tmp_path: Path
) -> None:
    fitted("combined")
    parts = {name: tmp_path / "parts" / name / "seed1" for name in PARTS}
    arm = build({"kind": "combined", "parts": ["gate", "adapter"]})
    with pytest.raises(InputError, match="'adapter' changes weights or carries adapters"):
        arm.fit(toy_model, replace(toy_data, parts=parts), seed=1)


def test_parts_must_be_fitted_and_different(toy_model: Any, toy_data: FitData) -> None:
    with pytest.raises(InputError, match="part 'gate' is not fitted"):
        build({"kind": "combined", "parts": ["gate", "more"]}).fit(toy_model, toy_data, seed=1)
    with pytest.raises(InputError, match="two or more different arms"):
        build({"kind": "combined", "parts": ["gate", "gate"]})


def test_a_part_of_another_base_is_refused(
    toy_model: Any, toy_data: FitData, fitted: Any, tmp_path: Path
) -> None:
    fitted("combined")
    parts = {name: tmp_path / "parts" / name / "seed1" for name in PARTS}
    with torch.no_grad():
        toy_model.model.norm.weight[0] += 1
    with pytest.raises(InputError, match="part 'adapter' was fitted to another base model"):
        build({"kind": "combined", "parts": list(PARTS)}).fit(
            toy_model, replace(toy_data, parts=parts), seed=1
        )


# ------------------------------------------------------------------------------------ configuration


def configured(**arms: Any) -> Any:
    content = yaml.safe_load(DEFAULT_FILE.read_text(encoding="utf-8"))
    return read_configuration({**content, "arms": {**content["arms"], **arms}})


@pytest.mark.regression("SAE-30")
def test_the_factorial_preset_has_all_four_cells() -> None:
    """The cell `both` names its parts, so its settings cannot differ from theirs."""
    preset = yaml.safe_load((DEFAULT_FILE.parent / "factorial.yaml").read_text(encoding="utf-8"))
    arms = configured(**preset["arms"]).arms
    both = next(arm for arm in arms.values() if arm.kind == "combined")
    assert [arms[part].kind for part in both.parts] == ["lora", "sae_clamp"]
    assert any(arm.kind == "none" for arm in arms.values())
    assert set(type(both).model_fields) == {"kind", "parts"}


def test_a_combination_that_cannot_be_attached_is_refused_before_anything_runs() -> None:
    with pytest.raises(InputError, match=r"'lora-npo' acts on weights or has adapters; name it first"):
        configured(both={"kind": "combined", "parts": ["sae-gate", "lora-npo"]})
    with pytest.raises(InputError, match=r"arms\.both\.parts: 'lora' is no other arm"):
        configured(both={"kind": "combined", "parts": ["lora", "sae-gate"]})
    with pytest.raises(InputError, match=r"'both' is no other arm"):
        configured(
            both={"kind": "combined", "parts": ["base", "sae-gate"]},
            more={"kind": "combined", "parts": ["both", "sae-gate"]},
        )
