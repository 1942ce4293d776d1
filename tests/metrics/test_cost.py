import math

import pytest
import torch

from mmie.errors import InputError
from mmie.interventions import FitData, build
from mmie.io import read_json
from mmie.job import manifest
from mmie.metrics.cost import cost_row, latency_per_token, merged_tensors, overhead, parameter_change

BASE = {"w": torch.tensor([3.0, 4.0]), "b": torch.tensor([0.0])}


def test_doing_nothing_changes_nothing() -> None:
    same = parameter_change(BASE, {name: tensor.clone() for name, tensor in BASE.items()})
    assert (same.changed, same.added, same.total, same.relative_norm) == (0, 0, 3, 0.0)


def test_changes_are_counted_after_the_fact_by_hand() -> None:
    arm = {"w": torch.tensor([3.0, 4.5]), "b": torch.tensor([0.0]), "extra": torch.zeros(2, 2)}
    change = parameter_change(BASE, arm)
    assert (change.changed, change.added) == (1, 4)
    assert change.relative_norm == pytest.approx(0.5 / 5.0)
    with pytest.raises(InputError, match="own base"):
        parameter_change(BASE, {"w": torch.zeros(3), "b": torch.zeros(1)})


def test_adapter_shows_as_the_change_of_weights_that_it_is(toy_model, toy_tokenizer) -> None:
    arm = build({"kind": "lora", "rank": 2, "alpha": 4, "layers": [0], "targets": ["q_proj"]})
    from mmie.interventions.lora import Fitted, base_weights_hash

    name = "model.layers.0.self_attn.q_proj"
    factors = {
        f"base_model.model.{name}.lora_A.weight": torch.ones(2, 16),
        f"base_model.model.{name}.lora_B.weight": torch.full((16, 2), 0.5),
    }
    facts = {"modules": {name: [16, 16]}, "layers": [0], "base_hash": base_weights_hash(toy_model)}
    arm.fitted = Fitted(facts, factors)
    base = dict(toy_model.state_dict())
    with arm.applied(toy_model) as model:
        change = parameter_change(base, merged_tensors(model, base))
    # alpha / rank * B A = 2 * (0.5 + 0.5) on each of 16 x 16 weights.
    norm = math.sqrt(sum(float(tensor.double().square().sum()) for tensor in base.values()))
    assert (change.changed, change.added) == (256, 0)
    assert change.relative_norm == pytest.approx(2.0 * 16 / norm, rel=1e-5)


def test_latency_is_the_median_over_tokens() -> None:
    assert latency_per_token([1.0, 9.0, 2.0, 3.0, 2.0], 4) == 0.5
    assert math.isnan(latency_per_token([1.0] * 5, 0))
    assert overhead(1.1, 1.0) == pytest.approx(0.1)
    with pytest.raises(InputError, match="at least five"):
        latency_per_token([1.0], 4)


@pytest.mark.regression("EVA-31")
def test_cost_row_is_present_and_equal_to_the_manifest(toy_model, tmp_path) -> None:
    arm = build({"kind": "noise", "scale": 1.0})
    arm.fit(toy_model, FitData(), seed=1)
    manifest(tmp_path / "manifest.json", config={}, inputs=[], seed=1)
    content = read_json(tmp_path / "manifest.json")
    base = dict(toy_model.state_dict())
    with arm.applied(toy_model) as model:
        change = parameter_change(base, merged_tensors(model, base))
    row = cost_row("broken", 1, content, change, 12)
    assert row["fit_seconds"] == content["cost"]["wall_seconds"] > 0
    assert row["peak_memory_mb"] == content["cost"]["peak_memory_mb"] > 0
    assert row["device"] == content["hardware"]["device"]
    assert 0 < row["changed"] <= row["total"] == sum(tensor.numel() for tensor in base.values())
    assert cost_row("broken", 1, content, None, 12)["changed"] is None
