from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmie.training.batches import Examples
from mmie.training.preparation import with_alternates
from mmie.training.reference import reference_log_likelihoods, reference_sums
from mmie.training.sets import TrainingSets


class Shift(nn.Module):
    """The smallest trainable edit: one vector added to the stream."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(width))

    def forward(self, hidden: Tensor, keep: Tensor) -> Tensor:
        return hidden + self.vector


@pytest.fixture
def shift() -> Shift:
    return Shift()


@pytest.fixture
def toy_sets(toy_model: Any, toy_tokenizer: Any, toy_rows: Callable[..., Any]) -> TrainingSets:
    forget, retain = toy_rows("xx"), toy_rows("yy", first_word=31)
    reference = reference_log_likelihoods(toy_model, toy_tokenizer, forget)
    examples = Examples.from_rows(forget, toy_tokenizer)
    return TrainingSets(
        examples, reference_sums(reference, examples), Examples.from_rows(retain, toy_tokenizer)
    )


@pytest.fixture
def toy_sets_with_alternates(
    toy_sets: TrainingSets, toy_model: Any, toy_tokenizer: Any, toy_rows: Callable[..., Any]
) -> TrainingSets:
    """Every forget row with the answer to another prompt beside its own."""
    return with_alternates(toy_sets, toy_model, toy_tokenizer, toy_rows("xx"), "altpo", seed=1)
