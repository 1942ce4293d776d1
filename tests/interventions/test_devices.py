"""Arms on a model that is on another device, or spread over two, act as they do on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from elsewhere import place

from mmie.interventions import KINDS, load_intervention
from mmie.interventions.interface import base_weights_hash


def slow(*values: str) -> Any:
    """A placement that adds little to the others."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture
def placed_logits() -> Any:
    """Logits of two rows of different length, on the processor."""
    ids = torch.tensor([[1, 5, 6, 7, 8], [1, 9, 10, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])

    def compute(model: Any) -> torch.Tensor:
        device = model.get_input_embeddings().weight.device
        with torch.no_grad():
            found = model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
        return found.logits.cpu()[mask.bool()]

    return compute


@pytest.mark.regression("ACT-30")
@pytest.mark.parametrize("rest", [slow("elsewhere:0"), "elsewhere:1", slow("cpu")])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_arm_acts_elsewhere_as_it_does_here(
    kind: str, rest: str, talkative: Any, fitted: Any, placed_logits: Any, tmp_path: Path, elsewhere: Any
) -> None:
    arm = fitted(kind)
    arm.save(tmp_path / "arm")
    before = placed_logits(talkative)
    with arm.applied(talkative) as changed:
        expected = placed_logits(changed)
    weights = base_weights_hash(talkative)
    model = place(talkative, "elsewhere:0", rest)
    with load_intervention(tmp_path / "arm").applied(model) as changed:
        found = placed_logits(changed)
    assert torch.allclose(found, expected, atol=1e-4)
    assert torch.allclose(placed_logits(model), before, atol=1e-5)
    assert base_weights_hash(model) == weights


@pytest.mark.regression("ACT-30")
@pytest.mark.parametrize(
    ("first", "rest"), [("elsewhere", "elsewhere"), ("elsewhere", "cpu"), slow("cpu", "elsewhere")]
)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_arm_is_fitted_elsewhere(
    kind: str,
    first: str,
    rest: str,
    talkative: Any,
    fitted: Any,
    placed_logits: Any,
    tmp_path: Path,
    elsewhere: Any,
) -> None:
    with fitted(kind).applied(talkative) as changed:
        expected = placed_logits(changed)
    model = place(talkative, first, rest)
    before = placed_logits(model)
    arm = fitted(kind)
    arm.save(tmp_path / "arm")
    with load_intervention(tmp_path / "arm").applied(model) as changed:
        during = placed_logits(changed)
    # Adam turns a gradient that is rounding alone into a whole step: training all weights differs a little.
    assert (during - expected).norm() <= 0.02 * (expected - before).norm() + 1e-3
    assert torch.equal(during, before) == (kind == "none")
