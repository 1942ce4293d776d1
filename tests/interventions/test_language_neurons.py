from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from mmie.errors import InputError
from mmie.interventions import FitData, build
from mmie.interventions.language_neurons import (
    firing_rates,
    language_entropy,
    language_neurons,
    scaling,
)
from mmie.models.hooks import edit_neurons


def test_entropy_by_hand() -> None:
    rates = torch.tensor([[0.4, 0.0, 0.0], [0.3, 0.3, 0.3], [0.2, 0.2, 0.0], [0.0, 0.0, 0.0]])
    entropy = language_entropy(rates)
    assert entropy[:3].tolist() == pytest.approx([0.0, math.log(3), math.log(2)], abs=1e-6)
    assert math.isnan(float(entropy[3]))


def test_neurons_that_hardly_fire_belong_to_no_language() -> None:
    rates = torch.full((100, 3), 0.3)
    rates[7] = torch.tensor([0.01, 0.0, 0.0])  # lowest entropy, but silent
    rates[8] = torch.tensor([0.9, 0.0, 0.0])
    rates[9] = torch.tensor([0.9, 0.5, 0.0])
    assert language_neurons(rates, 0.02).tolist() == [8, 9]


def test_the_limit_is_the_interpolated_quantile_of_all_rates() -> None:
    # 41 x 3 rates 0, 1, ..., 122: the 95th percentile is 115.9, so rows with 116 or more fire often.
    rates = torch.arange(123.0).reshape(41, 3) / 123
    assert torch.quantile(rates.flatten() * 123, 0.95).item() == pytest.approx(115.9, abs=1e-3)
    assert sorted(language_neurons(rates, 0.5).tolist()) == [38, 39, 40]


def test_neurons_of_a_large_model_are_ranked() -> None:
    """More rates than torch.quantile takes (2^24): 80 blocks of 28,672 neurons in 8 languages are more."""
    rates = torch.zeros(2**21 + 1, 8)
    rates[5, 3], rates[-1, 0] = 0.5, 0.5
    rates[9] = 0.5
    assert rates.numel() == 2**24 + 8
    assert language_neurons(rates, 1e-6).tolist() == [5, len(rates) - 1]


def test_a_planted_neuron_is_found_and_silenced(toy_model: Any, toy_data: FitData) -> None:
    """Neuron 3 of block 0 is made to fire on the words of xx alone."""
    data = planted(toy_model, toy_data)
    arm = build({"kind": "language_neurons", "share": 0.02})
    arm.fit(toy_model, data, seed=1)
    assert {name: own.tolist() for name, own in arm.fitted.tensors.items()} == {"layers.0": [3]}
    seen: list[torch.Tensor] = []

    def note(fired: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        seen.append(fired[..., 3])
        return fired

    with torch.no_grad(), arm.applied(toy_model), edit_neurons(toy_model, {0: note}):
        toy_model(input_ids=torch.tensor([[1, 10, 11]]))
    assert float(seen[0][0, 1:].abs().max()) == 0
    assert float(seen[0][0, 0].abs()) > 0  # the first token is never edited


def planted(model: Any, data: FitData) -> FitData:
    import pandas as pd

    words = {"xx": range(10, 20), "yy": range(30, 40), "zz": range(50, 60)}
    tables = {}
    for language, ids in words.items():
        names = [f"w{number}" for number in ids]
        tables[language] = pd.DataFrame(
            {
                "example_id": [f"{language}{at}" for at in range(10)],
                "language": language,
                "prompt": [" ".join(names[at:] + names[:at]) for at in range(10)],
                "answer": "w63",
            }
        )
    with torch.no_grad():
        embedding = model.get_input_embeddings().weight
        embedding[:, 0] = -1.0
        embedding[10:20, 0] = 4.0
        embedding[:, 1] = 2.0
        for block in model.model.layers:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.gate_proj.weight.zero_()
            block.mlp.gate_proj.weight[5, 1] = 1.0  # fires in every language
        block = model.model.layers[0]
        block.mlp.gate_proj.weight[3, 0] = 1.0
    retain = pd.concat([tables["yy"], tables["zz"]], ignore_index=True)
    return replace(data, forget=tables["xx"], retain=retain)


def test_rates_do_not_count_padding(toy_model: Any, toy_data: FitData) -> None:
    rows = toy_data.retain
    assert rows is not None
    together = firing_rates(toy_model, toy_data.tokenizer, rows)
    counts, total = [torch.zeros_like(rates) for rates in together], 0
    for at in range(len(rows)):
        row = rows.iloc[[at]]
        tokens = len(f"{row['prompt'].iloc[0]} {row['answer'].iloc[0]}".split()) + 1  # end, not start
        total += tokens
        for layer, rates in enumerate(firing_rates(toy_model, toy_data.tokenizer, row)):
            counts[layer] += rates * tokens
    for layer in range(2):
        assert torch.allclose(counts[layer] / total, together[layer], atol=1e-9)


def test_a_negative_strength_amplifies() -> None:
    fired = torch.ones(1, 2, 4)
    changed = scaling(torch.tensor([1]), 1 - -1.0)(fired, torch.ones(1, 2))
    assert changed.tolist() == [[[1, 2, 1, 1]] * 2]


def test_random_neurons_are_as_many_in_the_same_blocks(fitted: Any) -> None:
    real, drawn = fitted("language_neurons"), fitted("language_neurons", picker="random", seed=3)
    assert drawn.fitted.facts["neurons"] == real.fitted.facts["neurons"]
    for name, own in real.fitted.tensors.items():
        assert not set(own.tolist()) & set(drawn.fitted.tensors[name].tolist())


def test_two_languages_are_too_few(toy_model: Any, toy_data: FitData) -> None:
    assert toy_data.retain is not None
    one = toy_data.retain[toy_data.retain["language"] == "yy"]
    with pytest.raises(InputError, match=r"2 languages \(xx, yy\)"):
        build({"kind": "language_neurons"}).fit(toy_model, replace(toy_data, retain=one), seed=1)
