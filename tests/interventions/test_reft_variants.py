"""What sets the variants of ReFT and LoRA apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mmie.interventions import FitData, build
from mmie.interventions.reft import VARIANTS, LoreftEdit
from mmie.interventions.reft_variants import GatedEdit
from mmie.training.batches import Examples
from mmie.training.reference import answer_sums


def forget_nll(model: Any, data: FitData) -> float:
    assert data.forget is not None
    return sum(answer_sums(model, Examples.from_rows(data.forget, data.tokenizer)))


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_every_reft_variant_starts_as_the_exact_identity(variant: Any) -> None:
    edit = LoreftEdit(4, 16, torch.Generator().manual_seed(0), variant)
    hidden = torch.randn(2, 5, 16)
    assert torch.equal(edit(hidden, torch.ones(2, 5, dtype=torch.bool)), hidden)


def test_direft_only_adds_and_noreft_sets_with_free_rows(fitted: Any) -> None:
    hidden = torch.randn(7, 16)
    for variant in ("noreft", "direft"):
        tensors = fitted("reft", variant=variant).fitted.tensors
        Q, W, b = (tensors[f"layers.1.{name}"] for name in "QWb")
        assert float((Q @ Q.T - torch.eye(3)).norm()) > 1e-3
        inner = hidden @ W.T + b - (hidden @ Q.T if variant == "noreft" else 0)
        assert torch.allclose(VARIANTS[variant](hidden, Q, W, b), hidden + inner @ Q, atol=1e-5)


def test_negative_reft_goes_the_other_way(
    toy_model: Any, toy_data: FitData, fitted: Any, logits: Any
) -> None:
    arm, base, start = (
        fitted("negative_reft", strength=1.0),
        logits(toy_model),
        forget_nll(toy_model, toy_data),
    )
    with arm.at_strength(0.0).applied(toy_model) as changed:
        assert torch.equal(logits(changed), base)
    with arm.at_strength(-1.0).applied(toy_model) as changed:
        assert forget_nll(changed, toy_data) < start
    with arm.applied(toy_model) as changed:
        assert forget_nll(changed, toy_data) > start


def test_a_gate_starts_almost_shut_and_a_shut_gate_is_the_base() -> None:
    edit = GatedEdit(4, 16, torch.Generator().manual_seed(0), "loreft")
    hidden = torch.randn(2, 5, 16)
    keep = torch.ones(2, 5, dtype=torch.bool)
    with torch.no_grad():
        edit.W.add_(1.0)
        moved_by = edit(hidden, keep) - hidden
        whole = VARIANTS["loreft"](hidden, edit.Q, edit.W, edit.b) - hidden
        assert torch.allclose(moved_by, 0.0179862 * whole, atol=1e-5)
        edit.gate_bias.fill_(-200.0)
        assert torch.equal(edit(hidden, keep), hidden)


def test_the_opening_over_retain_tokens_is_a_term_and_is_recorded(fitted: Any) -> None:
    closed, free = fitted("gated_reft", sparsity=50.0), fitted("gated_reft", sparsity=0.0)
    assert closed.history["opening"].iloc[0] == pytest.approx(0.0179862, abs=1e-6)
    assert closed.fitted.facts["openings"]["retain"] < 0.0179862
    assert closed.fitted.facts["openings"]["retain"] < free.fitted.facts["openings"]["retain"]


def test_dora_magnitudes_start_as_the_lengths_of_the_rows(toy_model: Any, fitted: Any) -> None:
    arm = build({"kind": "lora", "rank": 2, "dora": True, "targets": ["q_proj"], "layers": [0]})
    module = "model.layers.0.self_attn.q_proj"
    start = arm._initial(toy_model, {module: [16, 16]}, 1)  # type: ignore[attr-defined]
    weight = toy_model.get_parameter(f"{module}.weight").detach()
    expected = torch.tensor([row.pow(2).sum().sqrt() for row in weight])
    assert torch.allclose(start[f"base_model.model.{module}.lora_magnitude_vector"], expected, atol=1e-6)


def test_peft_itself_reads_a_saved_dora_adapter(
    tmp_path: Path, toy_model: Any, fitted: Any, logits: Any
) -> None:
    from peft import PeftModel

    arm = fitted("lora", dora=True)
    with arm.applied(toy_model) as changed:
        expected = logits(changed)
    arm.save(tmp_path)
    assert torch.equal(logits(PeftModel.from_pretrained(toy_model, str(tmp_path))), expected)
