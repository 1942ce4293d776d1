from __future__ import annotations

from typing import Any

import pytest
import torch

from mmie.errors import InputError
from mmie.interventions import build
from mmie.interventions.operations import project
from mmie.interventions.subspace import projector, subspace_basis
from mmie.models.hooks import capture


def means(seed: int, forget: int = 5, retain: int = 3, width: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(  # type: ignore[return-value]
        torch.randn(count, width, generator=generator, dtype=torch.float64) + 4 for count in (forget, retain)
    )


@pytest.mark.regression("SAE-14")
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_the_projector_is_symmetric_idempotent_of_rank_k_and_spans_its_components(rank: int) -> None:
    basis = subspace_basis(*means(rank), rank)
    p = projector(basis)
    assert torch.allclose(p, p.T)
    assert torch.allclose(p @ p, p, atol=1e-12)
    assert int(torch.linalg.matrix_rank(p)) == rank
    assert torch.allclose(p @ basis, basis, atol=1e-12)
    assert torch.allclose(basis.T @ basis, torch.eye(rank, dtype=torch.float64), atol=1e-12)


def test_differences_among_retain_languages_survive() -> None:
    forget, retain = means(1)
    basis = subspace_basis(forget, retain, 4)
    assert float(((retain - retain.mean(0)) @ basis).abs().max()) < 1e-10
    assert float(((forget - retain.mean(0)) @ basis).abs().max()) > 0.1


@pytest.mark.regression("SAE-17")
def test_on_an_offset_line_the_mean_is_preserved_and_the_line_collapses() -> None:
    v = torch.nn.functional.normalize(torch.randn(16), dim=0)
    offset = torch.randn(16) * 10
    line = offset + torch.linspace(-3, 3, 101)[:, None] * v
    flat = project(line, v[:, None], v[None], line.mean(0))
    assert torch.allclose(flat.mean(0), line.mean(0), atol=1e-4)
    assert torch.allclose(flat, offset.expand_as(flat), atol=1e-4)


def test_more_directions_than_languages_are_refused() -> None:
    with pytest.raises(InputError, match=r"rank 3, but 2 forget languages span 2"):
        subspace_basis(*means(1, forget=2), 3)


@pytest.mark.parametrize("model_kind", ["llama", "gpt2"])
def test_baked_blocks_write_nothing_into_the_subspace(model_kind: str, toy_model: Any, fitted: Any) -> None:
    arm = fitted("subspace", layers=[0, 1], baked=True, rank=2)
    model = toy_model
    if model_kind == "gpt2":
        from transformers import GPT2Config, GPT2LMHeadModel

        from mmie.interventions.interface import base_weights_hash

        model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2)).eval()
        with torch.no_grad():
            for value in model.parameters():
                value.normal_(0, 0.3)
        arm.fitted.facts["base_hash"] = base_weights_hash(model)
    ids = torch.tensor([[1, 5, 6, 7]])
    basis = arm.fitted.tensors["layers.1.basis"]

    def written() -> torch.Tensor:
        with torch.no_grad(), capture(model, [0, 1]) as seen:
            model(input_ids=ids)
        return (seen.hidden[1] - seen.hidden[0]) @ basis

    assert float(written().abs().max()) > 1e-3
    with arm.applied(model):
        assert float(written().abs().max()) < 1e-5


def test_a_model_that_cannot_be_baked_is_refused_at_the_fit(toy_model: Any, toy_data: Any) -> None:
    arm = build({"kind": "subspace", "baked": True, "writers": ["proj_out"]})
    with pytest.raises(InputError, match="no layer named proj_out"):
        arm.fit(toy_model, toy_data, seed=1)
