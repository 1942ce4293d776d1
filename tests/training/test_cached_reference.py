"""A reference that is computed once says what the base beside every batch says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import CohereConfig, CohereForCausalLM, LlamaForCausalLM

from mmie.errors import InputError
from mmie.models.hooks import edit
from mmie.training import cached_reference as module
from mmie.training import terms
from mmie.training.cached_reference import cached_reference
from mmie.training.forward import answer_logits, answer_token_logits
from mmie.training.loop import train
from mmie.training.memory import cache_bytes
from mmie.training.sets import TrainingSets
from mmie.training.settings import TrainingSettings
from mmie.training.terms import RetainTerm, accumulate

ROWS = [7, 0, 3, 11, 4]


def gradient(model: Any, shift: Any, sets: TrainingSets, top: int | None = None, **options: Any) -> Any:
    """Loss and gradient of the retain term on some rows, away from the base."""
    torch.nn.init.constant_(shift.vector, 0.3)
    shift.vector.grad = None
    settings = TrainingSettings(**options)
    with edit(model, {0: shift}):
        cached = settings.reference == "cached"
        cache = cached_reference(model, sets.retain, range(12), top) if cached else None
        term = RetainTerm(model, sets.retain, settings, cache)
        value = accumulate(term, ROWS, weight=1.0, size=2, where="step 0")
    return value.loss, shift.vector.grad.clone()


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("objective", ["kl", "jsd"])
def test_whole_distributions_give_loss_and_gradient_to_rounding(
    objective: str, frozen: bool, toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    """From final states where the projection is frozen, else from log-probabilities."""
    toy_model.lm_head.requires_grad_(not frozen)
    loss, exact = gradient(toy_model, shift, toy_sets, retain_objective=objective)
    cached, found = gradient(toy_model, shift, toy_sets, retain_objective=objective, reference="cached")
    assert cached == pytest.approx(loss, rel=1e-5) and loss > 0.001
    assert torch.allclose(found, exact, atol=1e-6)


def test_the_most_likely_tokens_give_a_lower_bound_that_closes_with_their_number(
    toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    loss, _ = gradient(toy_model, shift, toy_sets)
    bounds = [gradient(toy_model, shift, toy_sets, top, reference="cached")[0] for top in (1, 8, 32, 64)]
    assert bounds == sorted(bounds)
    assert bounds[0] < 0.9 * loss
    assert bounds[-1] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_base_is_read_once_for_each_row_that_will_be_drawn(
    frozen: bool, toy_model: Any, shift: Any, toy_sets: TrainingSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten steps of four rows draw all twelve; a run of one step would read four."""
    toy_model.requires_grad_(not frozen)
    read: list[int] = []
    original = module.answer_token_states

    def counting(model: Any, batch: Any) -> Any:
        read.append(len(batch.input_ids))
        return original(model, batch)

    monkeypatch.setattr(module, "answer_token_states", counting)
    options = {"forget_batch": 4, "retain_batch": 4, "learning_rate": 0.05, "reference": "cached"}
    for steps, rows in ((10, 12), (2, 8)):
        torch.nn.init.zeros_(shift.vector)
        read.clear()
        with edit(toy_model, {0: shift}):
            history = train(
                toy_model, {"v": shift.vector}, toy_sets, TrainingSettings(steps=steps, **options), seed=1
            )
        assert sum(read) == rows
        assert history["retain_loss"].iloc[0] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_intervention_is_off_while_the_cache_is_filled(
    frozen: bool, toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    toy_model.requires_grad_(not frozen)
    plain = cached_reference(toy_model, toy_sets.retain, ROWS, None)
    torch.nn.init.constant_(shift.vector, 5.0)
    with edit(toy_model, {0: shift}):
        edited = cached_reference(toy_model, toy_sets.retain, ROWS, None)
    for one, other in zip(plain.values, edited.values, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_killed_run_goes_on_with_the_same_reference(
    frozen: bool,
    tmp_path: Path,
    toy_model: Any,
    shift: Any,
    toy_sets: TrainingSets,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toy_model.requires_grad_(not frozen)
    settings = TrainingSettings(
        steps=6, forget_batch=4, retain_batch=4, learning_rate=0.05, reference="cached", checkpoint_every=2
    )

    def run(**more: Any) -> bytes:
        torch.nn.init.zeros_(shift.vector)
        with edit(toy_model, {0: shift}):
            train(toy_model, {"v": shift.vector}, toy_sets, settings, seed=1, **more)
        return bytes(shift.vector.detach().numpy().tobytes())

    whole = run()
    original, calls = terms.answer_token_logits, 0

    def stopping(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return original(*given)

    with monkeypatch.context() as patch:
        patch.setattr(terms, "answer_token_logits", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(checkpoints=tmp_path, identity={})
    assert run(checkpoints=tmp_path, identity={}) == whole


def test_a_cache_beyond_its_budget_is_refused_with_a_remedy_that_fits(
    toy_model: Any, toy_sets: TrainingSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = sum(toy_sets.retain.answer_lengths)
    whole = cached_reference(toy_model, toy_sets.retain, range(12), None)
    lumped = cached_reference(toy_model, toy_sets.retain, range(12), 5)
    states = cached_reference(toy_model.requires_grad_(False), toy_sets.retain, range(12), None)
    assert whole.bytes == cache_bytes(tokens, 64, None) == tokens * 64 * 4
    assert lumped.bytes == cache_bytes(tokens, 64, 5) == tokens * (5 * 8 + 4)
    assert states.bytes == cache_bytes(tokens, 64, None, 16) == tokens * 16 * 4
    monkeypatch.setattr(module, "CACHE_LIMIT", states.bytes - 1)
    with pytest.raises(InputError, match=r"final states .* Set reference_top: 7 \(kl only\), or reference"):
        cached_reference(toy_model, toy_sets.retain, range(12), None)
    assert cached_reference(toy_model, toy_sets.retain, range(12), 7).bytes < states.bytes
    monkeypatch.setattr(module, "CACHE_LIMIT", 11 * tokens)
    with pytest.raises(InputError, match=r"5 most likely tokens .* Set reference: adapter_off"):
        cached_reference(toy_model, toy_sets.retain, range(12), 5)


def test_a_model_that_scales_its_logits_has_its_distributions_kept(toy_sets: TrainingSets) -> None:
    sizes = {
        "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2,
    }  # fmt: skip
    model = CohereForCausalLM(CohereConfig(**sizes, logit_scale=0.25)).eval().requires_grad_(False)
    kept = cached_reference(model, toy_sets.retain, ROWS, None)
    assert kept.projection is None
    with torch.no_grad():
        logits, _, _ = answer_token_logits(model, toy_sets.retain.batch(ROWS))
    assert torch.allclose(kept.of(ROWS), logits.log_softmax(-1), atol=1e-5)


class Upcasting(LlamaForCausalLM):
    """Returns float32 logits whatever it computes in, as some families do."""

    def forward(self, *given: Any, **named: Any) -> Any:
        output = super().forward(*given, **named)
        output.logits = output.logits.float()
        return output


def test_states_in_half_precision_give_the_distributions_of_the_model(
    toy_model: Any, toy_sets: TrainingSets
) -> None:
    model = Upcasting(toy_model.config).eval().requires_grad_(False).to(torch.bfloat16)
    kept = cached_reference(model, toy_sets.retain, ROWS, None)
    assert kept.projection is not None and kept.values[0].dtype == torch.bfloat16
    with torch.no_grad():
        logits, _, _ = answer_token_logits(model, toy_sets.retain.batch(ROWS))
    assert torch.allclose(kept.of(ROWS), logits.log_softmax(-1), atol=1e-2)


def test_full_training_of_a_tied_projection_keeps_distributions(
    toy_model: Any, toy_sets: TrainingSets
) -> None:
    toy_model.requires_grad_(True)
    kept = cached_reference(toy_model, toy_sets.retain, ROWS, None)
    before = kept.of(ROWS)
    with torch.no_grad():
        toy_model.model.embed_tokens.weight.mul_(2.0)
    assert kept.projection is None
    assert torch.equal(kept.of(ROWS), before)


def test_an_adapter_on_the_projection_does_not_reach_the_reference(
    toy_model: Any, toy_sets: TrainingSets
) -> None:
    plain = cached_reference(toy_model.requires_grad_(False), toy_sets.retain, ROWS, None)
    assert plain.projection is not None
    adapted = get_peft_model(toy_model, LoraConfig(r=2, target_modules=["lm_head"]))
    kept = cached_reference(adapted, toy_sets.retain, ROWS, None)
    assert kept.projection is None
    before = kept.of(ROWS)
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "lora_B" in name:
                value.fill_(1.0)
    assert torch.equal(kept.of(ROWS), before)
    assert torch.allclose(before, plain.of(ROWS), atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"reference": "cached", "retain_objective": "nll"},
        {"reference": "cached", "objective": "gradient_ascent", "retain_weight": 0},
        {"reference_top": 8},
        {"reference": "cached", "reference_top": 8, "retain_objective": "jsd"},
        {"reference": "cached", "reference_top": 0},
        {"reference": "somewhere"},
    ],
)
def test_a_reference_option_without_effect_or_meaning_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"training\.reference"):
        TrainingSettings(**options)


@pytest.mark.parametrize("side", ["left", "right"])
def test_answer_tokens_alone_have_the_logits_of_the_whole_batch(
    side: str, toy_model: Any, toy_sets: TrainingSets
) -> None:
    from mmie.models.prompts import collate

    batch = collate([toy_sets.forget.encoded[row] for row in ROWS], 0, side=side)
    with torch.no_grad():
        logits, targets, mask = answer_logits(toy_model, batch)
        packed, ids, same = answer_token_logits(toy_model, batch)
    assert torch.equal(same, mask)
    assert torch.equal(ids, targets[mask])
    assert torch.allclose(packed, logits[mask], atol=1e-6)
    expected = [token for row in ROWS for token in _answer(toy_sets, row)]
    assert ids.tolist() == expected


def test_the_projection_of_the_model_is_left_as_it_was(toy_model: Any, toy_sets: TrainingSets) -> None:
    batch = toy_sets.forget.batch(ROWS)
    with torch.no_grad():
        before = toy_model(**batch.inputs()).logits
        answer_token_logits(toy_model, batch)
        assert torch.equal(toy_model(**batch.inputs()).logits, before)
        broken = replace(batch, input_ids=batch.input_ids + 10_000)
        with pytest.raises(IndexError):
            answer_token_logits(toy_model, broken)
        assert torch.equal(toy_model(**batch.inputs()).logits, before)


def _answer(sets: TrainingSets, row: int) -> list[int]:
    item = sets.forget.encoded[row]
    return item.ids[item.answer_start :]
