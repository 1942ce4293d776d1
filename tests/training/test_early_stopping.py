from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from mmie.errors import InputError
from mmie.models.hooks import edit
from mmie.training import loop
from mmie.training.early_stopping import Stopper, joint_criterion
from mmie.training.loop import train
from mmie.training.preparation import hold_out, with_alternates
from mmie.training.sets import HeldOut, TrainingSets
from mmie.training.settings import EarlyStopping, TrainingSettings

OPTIONS = EarlyStopping(every=2, patience=3, held_out_share=0.25)
SETTINGS = TrainingSettings(
    steps=40, learning_rate=0.05, forget_batch=4, retain_batch=4, early_stopping=OPTIONS
)


@pytest.fixture
def split_sets(toy_sets: TrainingSets, toy_rows: Any) -> TrainingSets:
    return hold_out(toy_sets, toy_rows("xx"), toy_rows("yy", first_word=31), SETTINGS, seed=1)


@pytest.mark.regression("TRN-17")
def test_a_plateau_stops_at_the_predicted_step_and_the_best_step_is_kept(
    toy_model: Any, shift: Any, split_sets: TrainingSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured after steps 2, 4, 6, ...: best at 6, then three without improvement, so the end is 12."""
    values = iter([0.1, 0.3, 0.5, 0.5, 0.4, 0.2])
    seen: list[torch.Tensor] = []

    def measured(*_: Any, **__: Any) -> float:
        seen.append(shift.vector.detach().clone())
        return next(values)

    monkeypatch.setattr(loop, "joint_criterion", measured)
    with edit(toy_model, {0: shift}):
        history = train(toy_model, {"v": shift.vector}, split_sets, SETTINGS, seed=1)
    assert len(history) == 12
    # Step 5 is the sixth.
    assert history.loc[history["chosen"], "step"].tolist() == [5]
    assert history["held_out"].dropna().tolist() == [0.1, 0.3, 0.5, 0.5, 0.4, 0.2]
    assert torch.equal(shift.vector.detach(), seen[2])
    assert not torch.equal(seen[5], seen[2])


@pytest.mark.regression("TRN-17")
def test_disabled_means_absent(toy_model: Any, shift: Any, toy_sets: TrainingSets) -> None:
    with edit(toy_model, {0: shift}):
        settings = replace(SETTINGS, steps=4, early_stopping=None)
        history = train(toy_model, {"v": shift.vector}, toy_sets, settings, seed=1)
    assert not {"held_out", "chosen"} & set(history) and len(history) == 4


@pytest.mark.regression("TRN-17")
def test_the_criterion_is_forgetting_minus_divergence_on_held_out_rows(
    toy_model: Any, shift: Any, split_sets: TrainingSets
) -> None:
    held_out = split_sets.held_out
    assert held_out is not None
    with edit(toy_model, {0: shift}):
        assert joint_criterion(toy_model, held_out, batch_size=2) == pytest.approx(0.0, abs=1e-5)
        # The reference set one nat a token too low stands for an answer that has lost that much.
        lower = [
            value - length
            for value, length in zip(held_out.reference_nll, held_out.forget.answer_lengths, strict=True)
        ]
        forgotten = HeldOut(held_out.forget, lower, held_out.retain)
        value = joint_criterion(toy_model, forgotten, batch_size=2)
        assert value == pytest.approx(1 - math.exp(-1), abs=1e-5)
        nn.init.normal_(shift.vector, 0.0, 2.0, generator=torch.Generator().manual_seed(1))
        same = [1e9] * len(lower)
        assert joint_criterion(toy_model, HeldOut(held_out.forget, same, held_out.retain), batch_size=2) < 0


def test_held_out_groups_leave_both_sets_and_are_not_trained_on(
    split_sets: TrainingSets, toy_sets: TrainingSets
) -> None:
    held_out = split_sets.held_out
    assert held_out is not None
    assert len(held_out.forget) == len(held_out.retain) == 3
    assert len(split_sets.forget) == len(split_sets.retain) == 9
    chosen = set(held_out.forget.example_ids)
    assert chosen == set(held_out.retain.example_ids)
    assert chosen.isdisjoint(split_sets.forget.example_ids)
    assert chosen.isdisjoint(split_sets.retain.example_ids)
    stored = dict(zip(toy_sets.forget.example_ids, toy_sets.reference_nll, strict=True))
    for part in (held_out, split_sets):
        pairs = zip(part.forget.example_ids, part.reference_nll, strict=True)
        assert all(stored[name] == value for name, value in pairs)


def test_other_answers_stay_with_their_rows_when_groups_are_held_out(
    toy_sets: TrainingSets, toy_model: Any, toy_tokenizer: Any, toy_rows: Any
) -> None:
    rows, retain = toy_rows("xx"), toy_rows("yy", first_word=31)
    sets = with_alternates(toy_sets, toy_model, toy_tokenizer, rows, "altpo", seed=1)
    split = hold_out(sets, rows, retain, SETTINGS, seed=1)
    assert split.alternates is not None and split.alternate_nll is not None
    assert split.alternates.example_ids == split.forget.example_ids
    assert len(split.alternate_nll) == len(split.forget)


def test_a_single_group_cannot_be_held_out(toy_sets: TrainingSets, toy_rows: Any) -> None:
    rows = toy_rows("xx").assign(group="one")
    with pytest.raises(InputError, match="1 of 1 groups held out leave a set empty"):
        hold_out(toy_sets, rows, rows, SETTINGS, seed=1)


def test_a_stopper_goes_on_where_it_stood() -> None:
    one, parameter = Stopper(OPTIONS), nn.Parameter(torch.ones(2))
    for done, value in ((2, 0.3), (4, 0.1)):
        one.record(done, value, {"w": parameter})
    other = Stopper(OPTIONS)
    other.restore(one.state(), one.best)
    for stopper in (one, other):
        stopper.record(6, 0.2, {"w": parameter})
        assert not stopper.stop
        stopper.record(8, 0.3, {"w": parameter})
        assert stopper.stop and stopper.best_step == 2
