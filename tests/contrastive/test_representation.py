"""Pooling, the projection head, and what tells a collapsed representation."""

from __future__ import annotations

import pytest
import torch

from mmie.contrastive.representation import (
    ProjectionHead,
    effective_rank,
    head_shapes,
    pairwise_cosine,
    pooled,
)
from mmie.contrastive.term import refuse_collapse
from mmie.errors import InputError
from mmie.training.divergence import TrainingDiverged


def test_the_pooled_vector_is_the_mean_over_prompt_tokens_alone() -> None:
    hidden = torch.tensor([[[9.0, 9.0], [1.0, 2.0], [3.0, 6.0], [50.0, 50.0]]])
    prompt = torch.tensor([[False, True, True, False]])
    assert pooled(hidden, prompt).tolist() == [[2.0, 4.0]]
    assert pooled(hidden, prompt, "last_prompt_token").tolist() == [[3.0, 6.0]]


def test_half_precision_is_summed_in_float32() -> None:
    hidden = torch.full((1, 600, 1), 1.01, dtype=torch.bfloat16)
    vector = pooled(hidden, torch.ones(1, 600, dtype=torch.bool))
    assert vector.dtype == torch.float32
    assert vector.item() == pytest.approx(hidden[0, 0, 0].item(), rel=1e-6)


@pytest.mark.regression("MEM-13")
def test_a_row_without_prompt_tokens_is_an_error() -> None:
    with pytest.raises(InputError, match=r"batch rows \[1\] have no prompt token"):
        pooled(torch.zeros(2, 2, 3), torch.tensor([[True, False], [False, False]]))


def test_a_head_has_two_squares_and_four_widths_of_parameters() -> None:
    head = ProjectionHead(16, seed=1)
    assert sum(value.numel() for value in head.parameters()) == 2 * 16**2 + 4 * 16
    assert {name: tuple(value.shape) for name, value in head.named().items()} == head_shapes(16)


def test_a_head_depends_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    one = ProjectionHead(8, seed=1)(torch.ones(1, 8))
    torch.manual_seed(6)
    assert torch.equal(ProjectionHead(8, seed=1)(torch.ones(1, 8)), one)
    assert not torch.equal(ProjectionHead(8, seed=2)(torch.ones(1, 8)), one)


def test_orthogonal_rows_have_full_rank_and_no_common_direction() -> None:
    assert effective_rank(torch.eye(5)) == pytest.approx(5)
    assert pairwise_cosine(torch.eye(5)) == pytest.approx(0)


@pytest.mark.regression("CON-10")
def test_a_constant_representation_trips_the_monitor() -> None:
    constant = torch.tensor([[1.0, 2.0, 3.0]]).expand(6, 3)
    assert pairwise_cosine(constant) == pytest.approx(1)
    assert effective_rank(constant) == pytest.approx(1, abs=1e-6)
    refuse_collapse(0.55, 0.4, 0.3, "step 3")
    with pytest.raises(TrainingDiverged, match="step 3: representations collapse"):
        refuse_collapse(pairwise_cosine(constant), 0.4, 0.3, "step 3")
