from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch.nn.functional import dropout

from mmie.errors import InputError
from mmie.models.hooks import edit
from mmie.objectives.forget import npo
from mmie.objectives.masking import answer_nll
from mmie.objectives.retain import masked_kl
from mmie.training import loop
from mmie.training.divergence import TrainingDiverged
from mmie.training.forward import answer_logits
from mmie.training.loop import TrainingSets, train
from mmie.training.settings import FORGET_OBJECTIVES, RETAIN_OBJECTIVES, TrainingSettings, learning_rate

SETTINGS = TrainingSettings(steps=6, learning_rate=0.05, forget_batch=5, retain_batch=4, checkpoint_every=2)


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


@pytest.mark.parametrize(("retain_objective", "micro_batch"), [("kl", 2), ("nll", 3)])
@pytest.mark.regression("TRN-21")
def test_micro_batches_have_the_gradient_of_the_whole_batch(
    retain_objective: str, micro_batch: int, toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    """5 rows in parts of 2 or 3, answers of 1 to 3 words: unequal parts, unequal lengths."""
    torch.nn.init.constant_(shift.vector, 0.3)
    rows = [0, 4, 5, 7, 11]
    gradients = []
    for size in (None, micro_batch):
        settings = replace(SETTINGS, micro_batch=size, retain_objective=retain_objective)
        shift.vector.grad = None
        with edit(toy_model, {0: shift}):
            loop.forget_step(toy_model, toy_sets, rows, settings, 0)
            loop.retain_step(toy_model, toy_sets.retain, rows, settings, 0)
        gradients.append(shift.vector.grad.clone())
    assert torch.allclose(*gradients, atol=1e-6)


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
        loop.forget_step(toy_model, toy_sets, rows, settings, 0)
        loop.retain_step(toy_model, toy_sets.retain, rows, settings, 0)
    assert torch.allclose(shift.vector.grad, 0.7 * forget + 2.0 * retain, atol=1e-5)
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
    monkeypatch.setattr(loop, "npo", lambda nll, start, beta: -npo(nll, start, beta))
    assert gain() < 0


def test_the_rate_rises_falls_and_is_never_zero() -> None:
    settings = TrainingSettings(steps=10, learning_rate=1.0, warmup_share=0.2)
    rates = [learning_rate(step, settings) for step in range(10)]
    assert rates == pytest.approx([1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


@pytest.mark.parametrize("key", ["steps", "learning_rate", "beta", "objective", "micro_batch"])
def test_a_zero_is_refused_and_never_means_the_default(key: str) -> None:
    with pytest.raises(InputError, match=rf"training\.{key} = "):
        TrainingSettings.from_options({key: 0})


@pytest.mark.parametrize("objective", FORGET_OBJECTIVES)
@pytest.mark.parametrize("retain_objective", RETAIN_OBJECTIVES)
def test_every_objective_trains(
    objective: str, retain_objective: str, toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    settings = replace(SETTINGS, objective=objective, retain_objective=retain_objective)
    history = run(toy_model, shift, toy_sets, settings)
    assert history["forget_nll"].iloc[-1] > 0
    assert (history["forget_loss"] < 0).all() == (objective == "gradient_ascent")


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(InputError, match=r"training\.learning_rte: unknown key"):
        TrainingSettings.from_options({"learning_rte": 0.1})


def test_a_loss_that_is_no_number_names_step_and_items(
    toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    broken = list(toy_sets.reference_nll)
    broken[3] = float("nan")
    sets = TrainingSets(toy_sets.forget, broken, toy_sets.retain)
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

    original = loop.forget_step
    monkeypatch.setattr(loop, "forget_step", meddling)
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

    original = loop.forget_step
    monkeypatch.setattr(loop, "forget_step", looking)
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


class Killed(Exception):
    pass


@pytest.mark.regression("RES-05", "RES-11", "TRN-23")
@pytest.mark.parametrize("kill", [1, 2, 3, 5])
def test_resume_after_an_interruption_is_bit_identical(
    kill: int,
    tmp_path: Path,
    toy_model: Any,
    shift: Any,
    toy_sets: TrainingSets,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With dropout on, so that the generators' states matter, and 12 rows in batches of 5."""

    def noisy(hidden: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        return shift(dropout(hidden, 0.3, training=True), keep)

    def once(**more: Any) -> tuple[torch.Tensor, pd.DataFrame]:
        torch.nn.init.zeros_(shift.vector)
        with edit(toy_model, {0: noisy}):
            parameters = dict(shift.named_parameters())
            history = train(toy_model, parameters, toy_sets, SETTINGS, seed=1, **more)
        return shift.vector.detach().clone(), history

    def dying(model: Any, sets: Any, rows: Any, settings: Any, step: int) -> dict[str, Any]:
        steps.append(step)
        if step == kill:
            raise Killed
        return original(model, sets, rows, settings, step)

    expected, whole = once()
    resumable = {"checkpoints": tmp_path, "identity": "a" * 64}
    steps: list[int] = []
    original = loop.forget_step
    monkeypatch.setattr(loop, "forget_step", dying)
    with pytest.raises(Killed):
        once(**resumable)
    last_checkpoint = kill // SETTINGS.checkpoint_every * SETTINGS.checkpoint_every
    kill, steps = -1, []
    vector, history = once(**resumable)
    assert steps == list(range(last_checkpoint, SETTINGS.steps))
    assert torch.equal(vector, expected)
    pd.testing.assert_frame_equal(history, whole, check_exact=True)
    # A finished run is not trained again.
    steps.clear()
    again, _ = once(**resumable)
    assert steps == []
    assert torch.equal(again, expected)


CHILD = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import torch
from conftest import toy_model, toy_rows, toy_tokenizer
from mmie.interventions.interface import FitData
from mmie.interventions.registry import build
from mmie.training import loop
from mmie.training.reference import reference_log_likelihoods
from pathlib import Path

torch.set_num_threads(1)
kill, out = int(sys.argv[1]), Path(sys.argv[2])
make = lambda fixture: fixture.__wrapped__()
model, tokenizer, rows = make(toy_model), make(toy_tokenizer), make(toy_rows)
original = loop.retain_step
def dying(model, retain, batch, settings, step):
    if step == kill:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(model, retain, batch, settings, step)
loop.retain_step = dying
training = dict(steps=6, learning_rate=0.01, forget_batch=5, retain_batch=5, checkpoint_every=2)
arm = build(dict(kind="lora", rank=2, alpha=4, training=training))
forget = rows("xx")
reference = reference_log_likelihoods(model, tokenizer, forget)
arm.fit(model, FitData(tokenizer=tokenizer, forget=forget, retain=rows("yy", first_word=31),
        reference=reference, checkpoints=out / "checkpoints"), seed=1)
arm.save(out / "arm")
arm.history.to_json(out / "history.json")
"""


@pytest.mark.regression("RES-03")
def test_resume_after_sigkill_is_bit_identical(tmp_path: Path) -> None:
    script = CHILD.format(tests=str(Path(__file__).parents[1]))

    def child(kill: int, out: Path) -> int:
        out.mkdir(exist_ok=True)
        arguments = [sys.executable, "-c", script, str(kill), str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        root = Path(__file__).parents[2]
        return subprocess.run(arguments, cwd=root, env=environment, check=False).returncode

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert child(-1, whole) == 0
    assert child(5, killed) == -signal.SIGKILL
    assert not (killed / "arm").exists()
    assert child(-1, killed) == 0
    for name in ("arm/adapter_model.safetensors", "arm/intervention.json", "history.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()
