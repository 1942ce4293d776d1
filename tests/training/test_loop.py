from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mmie.models.hooks import capture, edit
from mmie.objectives import registry
from mmie.objectives.catalogue import FORGET, RETAIN
from mmie.objectives.forget import npo
from mmie.objectives.masking import answer_nll
from mmie.objectives.retain import masked_kl
from mmie.training import loop, terms
from mmie.training.divergence import TrainingDiverged
from mmie.training.forward import answer_logits
from mmie.training.loop import train
from mmie.training.sets import TrainingSets
from mmie.training.settings import TrainingSettings
from mmie.training.terms import ForgetTerm, RetainTerm, accumulate

SETTINGS = TrainingSettings(steps=6, learning_rate=0.05, forget_batch=5, retain_batch=4, checkpoint_every=2)
OPTIONS: dict[str, dict[str, Any]] = {
    "gradient_ascent": {"retain_weight": 0.0},
    "pdu": {"dual_limit": 0.1},
    "hidden": {"retain_layers": [1]},
}
"""What an objective cannot be trained without."""


def settings_of(objective: str, retain_objective: str = "kl", **more: Any) -> TrainingSettings:
    own = OPTIONS.get(objective, {}) | OPTIONS.get(retain_objective, {}) | more
    return replace(SETTINGS, objective=objective, retain_objective=retain_objective, **own)


def run(model: Any, shift: Any, sets: TrainingSets, settings: TrainingSettings, **more: Any) -> Any:
    with edit(model, {0: shift}):
        return train(model, dict(shift.named_parameters()), sets, settings, seed=1, **more)


@pytest.mark.regression("TRN-11", "TRN-28")
def test_every_step_takes_a_forget_and_a_retain_batch(
    toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    history = run(toy_model, shift, toy_sets, replace(SETTINGS, micro_batch=2))
    assert history["step"].tolist() == [0, 1, 2, 3, 4, 5]
    assert history["forget_items"].tolist() == [5] * 6
    assert history["retain_items"].tolist() == [4] * 6
    for column in ("forget_loss", "retain_loss", "forget_nll", "lr", "grad_norm", "tokens"):
        assert history[column].notna().all()


def test_the_first_step_starts_at_the_reference(toy_model: Any, shift: Any, toy_sets: TrainingSets) -> None:
    first = run(toy_model, shift, toy_sets, SETTINGS).iloc[0]
    assert first["forget_loss"] == pytest.approx(13.862944, abs=1e-3)
    assert first["retain_loss"] == pytest.approx(0.0, abs=1e-6)


def gradient_of(model: Any, shift: Any, sets: TrainingSets, settings: TrainingSettings, rows: Any) -> Tensor:
    """Gradient of both terms over the rows, in the micro-batches of the settings."""
    shift.vector.grad = None
    size = settings.micro_batch
    with edit(model, {0: shift}):
        forget, retain = ForgetTerm(model, sets, settings), RetainTerm(model, sets.retain, settings)
        accumulate(forget, rows, weight=settings.forget_weight, size=size, where="step 0")
        accumulate(retain, rows, weight=settings.retain_weight, size=size, where="step 0")
    return shift.vector.grad.clone()


def test_rows_of_a_micro_batch_are_of_similar_length(
    toy_model: Any, shift: Any, toy_sets: TrainingSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = [len(item.ids) for item in toy_sets.retain.encoded]
    assert lengths != sorted(lengths)
    seen: list[list[int]] = []
    real = RetainTerm.sums
    monkeypatch.setattr(RetainTerm, "sums", lambda self, rows: seen.append(list(rows)) or real(self, rows))
    with edit(toy_model, {0: shift}):
        term = RetainTerm(toy_model, toy_sets.retain, SETTINGS)
        accumulate(term, range(len(lengths)), weight=1.0, size=2, where="step 0")
        accumulate(term, [1, 0, 2], weight=1.0, size=None, where="step 0")
    drawn = [row for part in seen[:-1] for row in part]
    assert [lengths[row] for row in drawn] == sorted(lengths)
    assert sorted(drawn) == list(range(len(lengths)))
    # What is not split keeps the order of the draw.
    assert seen[-1] == [1, 0, 2]


@pytest.mark.parametrize(
    ("objective", "retain_objective"),
    [*((name, "nll") for name in FORGET), *(("npo", name) for name in RETAIN)],
)
@pytest.mark.regression("TRN-21")
def test_micro_batches_have_the_gradient_of_the_whole_batch(
    objective: str,
    retain_objective: str,
    toy_model: Any,
    shift: Any,
    toy_sets_with_alternates: TrainingSets,
) -> None:
    """5 rows in parts of 2 or 3, answers of 1 to 3 words: unequal parts, unequal lengths."""
    torch.nn.init.constant_(shift.vector, 0.3)
    settings = settings_of(objective, retain_objective)
    rows = [0, 4, 5, 7, 11]
    gradients = [
        gradient_of(toy_model, shift, toy_sets_with_alternates, replace(settings, micro_batch=size), rows)
        for size in (None, 2, 3)
    ]
    # In float32 a gradient carries about 1e-7 of its own size.
    scale = max(1.0, float(gradients[0].abs().max()))
    assert float(gradients[0].norm()) > 0
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6 * scale, rtol=0)
    assert torch.allclose(gradients[0], gradients[2], atol=1e-6 * scale, rtol=0)


@pytest.mark.regression("TRN-10")
def test_the_gradient_is_that_of_gamma_npo_plus_alpha_kl(
    toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    torch.nn.init.constant_(shift.vector, 0.3)
    rows, settings = [1, 2, 3], replace(SETTINGS, forget_weight=0.7, retain_weight=2.0)

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss, shift.vector)[0]

    with torch.no_grad():
        reference, _, _ = answer_logits(toy_model, toy_sets.retain.batch(rows))
    with edit(toy_model, {0: shift}):
        nll, _ = answer_nll(*answer_logits(toy_model, toy_sets.forget.batch(rows)))
        start = torch.tensor([toy_sets.reference_nll[row] for row in rows])
        logits, _, mask = answer_logits(toy_model, toy_sets.retain.batch(rows))
        forget = gradient(npo(nll, start, 0.1).mean())
        retain = gradient(masked_kl(logits, reference, mask))
    found = gradient_of(toy_model, shift, toy_sets, settings, rows)
    assert torch.allclose(found, 0.7 * forget + 2.0 * retain, atol=1e-5)
    assert float(forget.norm()) > 0 and float(retain.norm()) > 0


@pytest.mark.regression("TRN-02")
def test_forgetting_raises_the_loss_and_a_flipped_sign_would_show(
    toy_model: Any, shift: Any, toy_sets: TrainingSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gain() -> float:
        torch.nn.init.zeros_(shift.vector)
        run(toy_model, shift, toy_sets, replace(SETTINGS, steps=12))
        every = list(range(len(toy_sets.forget)))
        with torch.no_grad(), edit(toy_model, {0: shift}):
            nll, _ = answer_nll(*answer_logits(toy_model, toy_sets.forget.batch(every)))
        return float(nll.sum()) - sum(toy_sets.reference_nll)

    assert gain() > 1
    upright = registry.FORGET_LOSSES["npo"]
    flipped = {"npo": lambda answers, options: -upright(answers, options)}
    monkeypatch.setattr(terms, "FORGET_LOSSES", flipped)
    assert gain() < 0


@pytest.mark.regression("TRN-06")
@pytest.mark.parametrize(
    ("objective", "retain_objective"),
    [*((name, "nll") for name in FORGET), *(("npo", name) for name in RETAIN)],
)
def test_every_objective_trains(
    objective: str,
    retain_objective: str,
    toy_model: Any,
    shift: Any,
    toy_sets_with_alternates: TrainingSets,
) -> None:
    settings = settings_of(objective, retain_objective)
    history = run(toy_model, shift, toy_sets_with_alternates, settings)
    assert len(history) == SETTINGS.steps
    assert torch.isfinite(torch.tensor(history["forget_loss"])).all()
    assert history["forget_loss"].nunique() > 1
    assert (history["forget_items"] == 5).all()


@pytest.mark.regression("TRN-02")
@pytest.mark.parametrize("objective", [name for name in FORGET if name != "max_entropy_reverse"])
def test_every_objective_makes_the_answers_less_likely(
    objective: str, toy_model: Any, shift: Any, toy_sets_with_alternates: TrainingSets
) -> None:
    """From a model that knows its answers: an edit is first trained on them, then made to forget."""
    sets = toy_sets_with_alternates
    rows = list(range(len(sets.forget)))

    def answer_loss() -> Tensor:
        with edit(toy_model, {1: shift}):
            return answer_nll(*answer_logits(toy_model, sets.forget.batch(rows)))[0].sum()

    for _ in range(20):
        (gradient,) = torch.autograd.grad(answer_loss(), shift.vector)
        with torch.no_grad():
            shift.vector -= 0.2 * gradient / gradient.norm()
    start = float(answer_loss().detach())
    knowing = replace(sets, reference_nll=[start / len(rows)] * len(rows))
    more = {} if objective == "gradient_ascent" else {"retain_weight": 1e-9}
    settings = settings_of(objective, "nll", learning_rate=0.02, steps=10, forget_batch=12, **more)
    with edit(toy_model, {1: shift}):
        train(toy_model, {"vector": shift.vector}, knowing, settings, seed=1)
    assert float(answer_loss().detach()) > start


@pytest.mark.regression("TRN-06")
def test_the_default_objective_is_bounded_and_a_bounded_one_stays_so_for_huge_losses(
    toy_model: Any, toy_sets: TrainingSets
) -> None:
    assert TrainingSettings().objective == "npo"
    # Every answer token 1e5 nats away: a vocabulary of 64, so that the bound is log(64) / 2.
    logits = torch.zeros(1, 2, 64)
    logits[..., 0] = 1e5
    targets, mask = torch.tensor([[1, 2]]), torch.tensor([[True, True]])
    answers = registry.Answers(logits[mask], targets[mask], mask, reference_nll=torch.zeros(1))
    for objective, lowest in (("npo", 0.0), ("bounded", -2.0794415)):
        loss = registry.FORGET_LOSSES[objective](answers, settings_of(objective).options)
        assert loss.item() == pytest.approx(lowest, abs=1e-6)
    ascent = registry.FORGET_LOSSES["gradient_ascent"](answers, {})
    assert ascent.item() == pytest.approx(-1e5)


@pytest.mark.regression("TRN-30")
def test_a_negative_loss_is_no_fault(toy_model: Any, shift: Any, toy_sets: TrainingSets) -> None:
    history = run(toy_model, shift, toy_sets, settings_of("gradient_ascent"))
    assert (history["forget_loss"] < 0).all()
    assert history["forget_loss"].nunique() == len(history)


@pytest.mark.regression("TRN-11")
def test_alternating_steps_count_what_each_term_was_given(
    toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    history = run(toy_model, shift, toy_sets, replace(SETTINGS, schedule="alternating"))
    assert history["forget_items"].tolist() == [5, 0, 5, 0, 5, 0]
    assert history["retain_items"].tolist() == [0, 4, 0, 4, 0, 4]
    assert history["forget_loss"].notna().tolist() == [True, False] * 3
    assert history["retain_loss"].notna().tolist() == [False, True] * 3


def test_a_term_of_weight_zero_is_not_computed(toy_model: Any, shift: Any, toy_sets: TrainingSets) -> None:
    """Retention alone, a control: its history has no column about forgetting but the count."""
    settings = replace(SETTINGS, forget_weight=0.0, retain_objective="nll")
    history = run(toy_model, shift, toy_sets, settings)
    assert (history["forget_items"] == 0).all()
    assert "forget_loss" not in history
    assert history["retain_loss"].iloc[-1] < history["retain_loss"].iloc[0]


def test_the_dual_weight_grows_while_the_limit_is_broken_and_falls_to_zero_below_it(
    toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    pdu = {"objective": "pdu", "retain_objective": "nll", "dual_rate": 0.5, "warmup_share": 0.34}
    for limit in (0.5, 100.0):
        torch.nn.init.zeros_(shift.vector)
        history = run(toy_model, shift, toy_sets, replace(SETTINGS, dual_limit=limit, **pdu))
        # Two warm-up steps; what a step used was set by the steps before it.
        expected, weight = [], 1.0
        for step, loss in enumerate(history["retain_loss"]):
            expected.append(weight)
            weight = weight if step < 2 else max(0.0, weight + 0.5 * (loss - limit))
        assert history["retain_weight"].tolist() == pytest.approx(expected)
        assert expected[:3] == [1.0, 1.0, 1.0]
        assert expected[-1] == 0.0 if limit == 100.0 else expected[-1] > 1.0


@pytest.mark.regression("MEM-12")
def test_the_vocabulary_projection_reads_answer_tokens_and_nothing_else(
    toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    seen: list[int] = []
    handle = toy_model.lm_head.register_forward_hook(
        lambda module, given, _: seen.append(given[0].shape[:-1].numel())
    )
    settings = replace(SETTINGS, steps=2)
    history = run(toy_model, shift, toy_sets, settings)
    handle.remove()
    # Forget, then retain without and with the intervention, of answers of unequal length.
    assert len(seen) == 6
    assert seen[1] == seen[2] and seen[4] == seen[5]
    assert [seen[0] + seen[1], seen[3] + seen[4]] == history["tokens"].tolist()


@pytest.mark.regression("MEM-11")
def test_no_hidden_state_is_asked_of_the_model_and_only_compared_blocks_are_kept(
    toy_model: Any, shift: Any, toy_sets: TrainingSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    handle = toy_model.register_forward_pre_hook(
        lambda module, args, given: asked.append("output_hidden_states" in given), with_kwargs=True
    )
    kept: list[list[int]] = []

    def noting(*given: Any) -> Any:
        context = capture(*given)
        seen = context.__enter__()
        kept.append(seen.hidden)  # type: ignore[arg-type]
        return _Entered(context, seen)

    monkeypatch.setattr(terms, "capture", noting)
    run(toy_model, shift, toy_sets, settings_of("npo", "hidden"))
    handle.remove()
    assert asked and not any(asked)
    # Block 1 of two is compared: the other one's stream is never held.
    assert kept and all(list(hidden) == [1] for hidden in kept)


class _Entered:
    """A context that was entered before, so that a test can look at what it yields."""

    def __init__(self, context: Any, yielded: Any) -> None:
        self.context, self.yielded = context, yielded

    def __enter__(self) -> Any:
        return self.yielded

    def __exit__(self, *error: Any) -> Any:
        return self.context.__exit__(*error)


def test_a_loss_that_is_no_number_names_step_and_items(
    toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    broken = list(toy_sets.reference_nll)
    broken[3] = float("nan")
    sets = replace(toy_sets, reference_nll=broken)
    with pytest.raises(TrainingDiverged, match=r"step 0: forget loss: .* fact3/q1 \(xx\)"):
        run(toy_model, shift, sets, replace(SETTINGS, forget_batch=12))


def test_a_parameter_that_does_not_move_is_an_error(
    toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    shift.idle = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(RuntimeError, match="training moved nothing in \\['idle'\\]"):
        run(toy_model, shift, toy_sets, SETTINGS)


def test_a_frozen_tensor_that_moves_is_an_error(
    toy_model: Any, shift: Any, toy_sets: TrainingSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meddling(*args: Any) -> dict[str, Any]:
        with torch.no_grad():
            toy_model.model.norm.weight += 0.1
        return original(*args)

    original = loop.take_step
    monkeypatch.setattr(loop, "take_step", meddling)
    with pytest.raises(RuntimeError, match="changed tensors of the frozen model"):
        run(toy_model, shift, toy_sets, SETTINGS)


@pytest.mark.regression("MEM-03")
def test_only_the_given_parameters_are_trainable_and_flags_come_back(
    toy_model: Any, shift: Any, toy_sets: TrainingSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looking(*args: Any) -> dict[str, Any]:
        assert not any(value.requires_grad for value in toy_model.parameters())
        assert not toy_model.training
        return original(*args)

    original = loop.take_step
    monkeypatch.setattr(loop, "take_step", looking)
    toy_model.train()
    toy_model.model.norm.weight.requires_grad_(False)
    run(toy_model, shift, toy_sets, SETTINGS)
    flags = {name for name, value in toy_model.named_parameters() if not value.requires_grad}
    assert flags == {"model.norm.weight"}
    assert toy_model.training
    assert all(value.grad is None for value in toy_model.parameters())


@pytest.mark.regression("TRN-33")
def test_one_seed_gives_one_result(toy_model: Any, shift: Any, toy_sets: TrainingSets) -> None:
    state = torch.get_rng_state()
    results = []
    for seed in (1, 1, 2):
        torch.nn.init.zeros_(shift.vector)
        torch.manual_seed(len(results))
        with edit(toy_model, {0: shift}):
            train(toy_model, {"vector": shift.vector}, toy_sets, SETTINGS, seed=seed)
        results.append(shift.vector.detach().clone())
    torch.set_rng_state(state)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
