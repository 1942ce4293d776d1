from __future__ import annotations

import json
import logging
import os
import shutil
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
from mmie.training import batches, terms
from mmie.training.checkpoint import newest_checkpoint, save_checkpoint
from mmie.training.divergence import TrainingDiverged
from mmie.training.loop import train
from mmie.training.sets import TrainingSets
from mmie.training.settings import TrainingSettings

HERE = Path(__file__).parent
SETTINGS = TrainingSettings(
    steps=6, learning_rate=0.05, forget_batch=5, retain_batch=4, checkpoint_every=2, micro_batch=2
)
IDENTITY = {"seed": 1}
PLAIN = {"steps": 8, "learning_rate": 0.01, "forget_batch": 5, "retain_batch": 5, "checkpoint_every": 3}
EVERYTHING = PLAIN | {
    "objective": "altpo",
    "micro_batch": 2,
    "retain_objective": "jsd",
    "optimisers": "dual",
    "curriculum": {"order": "easy_first"},
    "reweighting": {"every": 2},
    "early_stopping": {"every": 2, "patience": 3, "held_out_share": 0.25},
}


@pytest.mark.regression("RES-03", "RES-05", "RES-07")
@pytest.mark.parametrize(
    "training",
    [
        pytest.param(PLAIN | {"micro_batch": 2}, id="plain", marks=pytest.mark.slow),
        pytest.param(EVERYTHING, id="everything"),
    ],
)
def test_resume_after_sigkill_at_ten_random_micro_batches_is_bit_identical(
    training: dict[str, Any], tmp_path: Path
) -> None:
    program = [sys.executable, str(HERE / "kill_and_resume.py"), str(tmp_path), json.dumps(training)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}
    subprocess.run(program, cwd=HERE.parents[1], env=environment, check=True, timeout=300)
    whole = tmp_path / "whole/arm"
    killed = sorted(tmp_path.glob("killed*"))
    assert len(killed) == 10
    for folder in killed:
        for name in ("adapter_model.safetensors", "intervention.json", "history.json"):
            assert (folder / "arm" / name).read_bytes() == (whole / name).read_bytes(), folder.name


def noisy_run(
    model: Any, shift: Any, sets: TrainingSets, settings: TrainingSettings = SETTINGS, **more: Any
) -> tuple[torch.Tensor, pd.DataFrame]:
    """With dropout on, so that the generators' states matter."""

    def noisy(hidden: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        return shift(dropout(hidden, 0.3, training=True), keep)

    torch.nn.init.zeros_(shift.vector)
    with edit(model, {0: noisy}):
        history = train(model, dict(shift.named_parameters()), sets, settings, seed=1, **more)
    return shift.vector.detach().clone(), history


class Stop:
    """Raises in the n-th micro-batch of a run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> None:
        self.at, self.error, self.seen = at, error, 0
        self.original = terms.answer_token_logits
        monkeypatch.setattr(terms, "answer_token_logits", self)

    def __call__(self, *given: Any) -> Any:
        self.seen += 1
        if self.seen == self.at:
            raise self.error
        return self.original(*given)


@pytest.mark.regression("RES-05", "RES-11", "TRN-23", "TRN-29")
@pytest.mark.parametrize("at", [10, 22, 25, 30, 40])
def test_an_interrupted_run_leaves_its_last_whole_step_and_goes_on_from_it(
    at: int,
    tmp_path: Path,
    toy_model: Any,
    shift: Any,
    toy_sets: TrainingSets,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """12 rows in batches of 5; a step makes 3 forward passes for 5 forget rows and 4 for 4 retain rows."""
    expected, whole = noisy_run(toy_model, shift, toy_sets)
    resumable = {"checkpoints": tmp_path, "identity": IDENTITY}
    with monkeypatch.context() as patch:
        Stop(patch, at, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            noisy_run(toy_model, shift, toy_sets, **resumable)
    found = newest_checkpoint(tmp_path, IDENTITY)
    assert found is not None and found.step == (at - 1) // 7
    with monkeypatch.context() as patch:
        counter = Stop(patch, -1, KeyboardInterrupt())
        vector, history = noisy_run(toy_model, shift, toy_sets, **resumable)
        assert counter.seen == 7 * (SETTINGS.steps - found.step)
    assert torch.equal(vector, expected)
    pd.testing.assert_frame_equal(history, whole, check_exact=True)


@pytest.mark.regression("RES-12")
def test_a_resumed_run_tokenises_nothing_and_collates_the_rows_of_the_steps_left(
    tmp_path: Path,
    toy_model: Any,
    toy_tokenizer: Any,
    shift: Any,
    toy_sets: TrainingSets,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nine rows a step, of which four of six steps are done: 18 rows are left."""
    resumable = {"checkpoints": tmp_path, "identity": IDENTITY}
    with monkeypatch.context() as patch:
        Stop(patch, 4 * 7 + 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            noisy_run(toy_model, shift, toy_sets, **resumable)
    collated: list[int] = []
    original = batches.collate

    def counting(items: Any, *given: Any, **more: Any) -> Any:
        collated.append(len(items))
        return original(items, *given, **more)

    def refused(*given: Any, **more: Any) -> Any:
        raise AssertionError("the tokenizer was called")

    monkeypatch.setattr(batches, "collate", counting)
    monkeypatch.setattr(batches, "encode_all", refused)
    monkeypatch.setattr(type(toy_tokenizer), "__call__", refused)
    _, history = noisy_run(toy_model, shift, toy_sets, **resumable)
    assert len(history) == 6
    assert sum(collated) == 2 * 9


@pytest.mark.regression("RES-04")
@pytest.mark.parametrize("damage", ["none", "deleted", "without the head"])
def test_a_head_beside_the_model_comes_back_with_the_run_or_the_run_stops(
    damage: str, tmp_path: Path, toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    """A head is no module of the model; its tensors are those of the run all the same, by name."""
    head = torch.nn.Linear(16, 16)
    parameters = {"v": shift.vector, "head.weight": head.weight, "head.bias": head.bias}

    def projected(hidden: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        return shift(hidden + 0.1 * head(hidden), keep)

    def run(steps: int) -> None:
        with edit(toy_model, {0: projected}):
            settings = replace(SETTINGS, steps=steps, checkpoint_every=2)
            train(toy_model, parameters, toy_sets, settings, seed=1, checkpoints=tmp_path, identity=IDENTITY)

    run(2)
    trained = {name: value.detach().clone() for name, value in parameters.items()}
    with torch.no_grad():
        for value in parameters.values():
            value.zero_()
    (folder,) = tmp_path.glob("*/step-00000002")
    if damage == "none":
        run(2)
        assert all(torch.equal(parameters[name], value) for name, value in trained.items())
        return
    if damage == "deleted":
        (folder / "parameters.safetensors").unlink()
        message = "parameters.safetensors: missing or damaged"
    else:
        found = newest_checkpoint(tmp_path, IDENTITY)
        assert found is not None
        found.parameters = {"v": found.parameters["v"]}
        shutil.rmtree(folder)
        save_checkpoint(tmp_path, IDENTITY, found)
        message = r"head.*missing"
    with pytest.raises(InputError, match=message):
        run(2)


@pytest.mark.regression("RES-11")
def test_a_finished_run_is_not_trained_again(
    tmp_path: Path, toy_model: Any, shift: Any, toy_sets: TrainingSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumable = {"checkpoints": tmp_path, "identity": IDENTITY}
    expected, _ = noisy_run(toy_model, shift, toy_sets, **resumable)
    counter = Stop(monkeypatch, -1, KeyboardInterrupt())
    again, _ = noisy_run(toy_model, shift, toy_sets, **resumable)
    assert counter.seen == 0
    assert torch.equal(again, expected)


@pytest.mark.regression("TRN-29")
def test_ctrl_c_ends_the_process_with_an_error_and_no_arm(tmp_path: Path) -> None:
    """A real SIGINT in the middle of step 3 of 8: at three forward passes a step, in pass 10."""
    program = (
        "import signal, sys, json\nfrom pathlib import Path\nfrom kill_and_resume import fit\n"
        # What starts the tests in the background may have it ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "fit(Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), signal.SIGINT)\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{HERE}:{HERE.parents[1]}"}

    def child(out: Path, kill: int) -> int:
        arguments = [sys.executable, "-c", program, str(out), json.dumps(PLAIN), str(kill)]
        return subprocess.run(arguments, cwd=HERE.parents[1], env=environment, check=False).returncode

    assert child(tmp_path / "stopped", 10) != 0
    assert not (tmp_path / "stopped/arm").exists()
    steps = [path.name for path in (tmp_path / "stopped/checkpoints").glob("*/step-*")]
    assert steps == ["step-00000003"]
    assert child(tmp_path / "stopped", -1) == 0
    assert child(tmp_path / "whole", -1) == 0
    name = "arm/adapter_model.safetensors"
    assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_diverged_run_names_the_last_good_checkpoint(
    tmp_path: Path,
    toy_model: Any,
    shift: Any,
    toy_sets: TrainingSets,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    Stop(monkeypatch, 24, TrainingDiverged("step 3: forget loss: not finite"))
    with pytest.raises(TrainingDiverged):
        noisy_run(toy_model, shift, toy_sets, checkpoints=tmp_path, identity=IDENTITY)
    assert "last good checkpoint" in caplog.text and "step-00000003" in caplog.text


def test_what_is_being_changed_is_never_saved(
    tmp_path: Path, toy_model: Any, shift: Any, toy_sets: TrainingSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption inside an optimiser step leaves the checkpoint before it."""
    steps = 0

    def interrupted(self: Any, *given: Any, **more: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 4:
            with torch.no_grad():
                shift.vector += 1.0
            raise KeyboardInterrupt
        original(self, *given, **more)

    expected, _ = noisy_run(toy_model, shift, toy_sets)
    original = torch.optim.AdamW.step
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            noisy_run(toy_model, shift, toy_sets, checkpoints=tmp_path, identity=IDENTITY)
    found = newest_checkpoint(tmp_path, IDENTITY)
    assert found is not None and found.step == 2
    vector, _ = noisy_run(toy_model, shift, toy_sets, checkpoints=tmp_path, identity=IDENTITY)
    assert torch.equal(vector, expected)


def test_a_checkpoint_of_another_run_is_left_alone_and_the_log_says_why(
    tmp_path: Path, toy_model: Any, shift: Any, toy_sets: TrainingSets, caplog: pytest.LogCaptureFixture
) -> None:
    expected, _ = noisy_run(toy_model, shift, toy_sets, checkpoints=tmp_path, identity={"seed": 2})
    with caplog.at_level(logging.WARNING):
        vector, _ = noisy_run(toy_model, shift, toy_sets, checkpoints=tmp_path, identity=IDENTITY)
    assert "these differ: seed" in caplog.text
    assert torch.equal(vector, expected)
    assert newest_checkpoint(tmp_path, {"seed": 2}) is not None


def test_rows_that_were_trained_on_are_not_touched_again(
    tmp_path: Path, toy_model: Any, shift: Any, toy_sets: TrainingSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are collated when their step comes; a resumed run collates those of its own steps alone."""
    resumable = {"checkpoints": tmp_path, "identity": IDENTITY}
    collated: list[int] = []
    original = type(toy_sets.forget).batch

    def watching(self: Any, rows: Any) -> Any:
        collated.append(len(rows))
        return original(self, rows)

    monkeypatch.setattr(type(toy_sets.forget), "batch", watching)
    noisy_run(toy_model, shift, toy_sets, **resumable)
    per_step = sum(collated) // SETTINGS.steps
    newest = newest_checkpoint(tmp_path, IDENTITY)
    assert newest is not None and newest.step == 6 and per_step == 9
    folder = next(tmp_path.glob("*/step-00000006"))
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    collated.clear()
    noisy_run(toy_model, shift, toy_sets, **resumable)
    assert sum(collated) == 2 * per_step


@pytest.mark.regression("RES-08")
def test_a_plan_that_does_not_match_the_checkpoint_is_refused(
    tmp_path: Path, toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    noisy_run(toy_model, shift, toy_sets, checkpoints=tmp_path, identity=IDENTITY)
    found = newest_checkpoint(tmp_path, IDENTITY)
    assert found is not None
    save_checkpoint(tmp_path, IDENTITY, replace(found, step=5, positions={"forget": 7, "retain": 20}))
    folder = next(tmp_path.glob("*/step-00000006"))
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    with pytest.raises(Exception, match="its rows are not those of the plan"):
        noisy_run(toy_model, shift, toy_sets, checkpoints=tmp_path, identity=IDENTITY)


@pytest.mark.parametrize("message", ["DefaultCPUAllocator: can't allocate memory", "CUDA out of memory"])
def test_running_out_of_memory_halves_the_micro_batch_and_gives_the_same_result(
    message: str,
    toy_model: Any,
    shift: Any,
    toy_sets: TrainingSets,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def run() -> tuple[torch.Tensor, pd.DataFrame]:
        torch.nn.init.zeros_(shift.vector)
        with edit(toy_model, {0: shift}):
            settings = replace(SETTINGS, micro_batch=None)
            history = train(toy_model, {"v": shift.vector}, toy_sets, settings, seed=1)
        return shift.vector.detach().clone(), history

    expected, _ = run()
    error = torch.OutOfMemoryError if "CUDA" in message else RuntimeError
    original = terms.answer_token_logits

    def small_machine(model: Any, batch: Any) -> Any:
        if len(batch.input_ids) > 2:
            raise error(message)
        return original(model, batch)

    monkeypatch.setattr(terms, "answer_token_logits", small_machine)
    vector, history = run()
    assert torch.allclose(vector, expected, atol=1e-6)
    assert history["micro_batch"].tolist() == [2] * 6
    assert caplog.text.count("out of memory") == 1


def test_another_runtime_error_is_not_taken_for_a_lack_of_memory(
    toy_model: Any, shift: Any, toy_sets: TrainingSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    Stop(monkeypatch, 2, RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        noisy_run(toy_model, shift, toy_sets)
