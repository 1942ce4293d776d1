from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch

from mmie.attacks.steer import UNSTEERED, States, at_random, pushes, residual_states, steer
from mmie.errors import InputError
from mmie.interventions import assert_restored
from mmie.interventions.interface import FitData, Fitted, Intervention
from mmie.models.hooks import edit

SHIFT = torch.linspace(-3, 3, 16)


@dataclass
class Shift(Intervention):
    """Adds one known vector to the stream of block 1: what steering can undo exactly."""

    kind: ClassVar[str] = "shift"

    def _fit(self, model: Any, data: FitData, seed: int) -> Fitted:
        return Fitted()

    @contextmanager
    def _attach(self, model: Any) -> Iterator[Any]:
        with edit(model, {1: lambda hidden, keep: hidden + SHIFT}):
            yield model


@pytest.fixture
def shifted(toy_model: Any) -> Shift:
    arm = Shift()
    arm.fit(toy_model, FitData(), seed=0)
    return arm


@pytest.fixture
def rows(toy_rows: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """DEV and TEST."""
    every = toy_rows("xx")
    return every.head(6), every.tail(6)


@pytest.fixture
def probability(score: Any) -> Any:
    return lambda model, rows: score(model, rows)["answer_probability"].tolist()


def run(model: Any, tokenizer: Any, arm: Any, rows: Any, score: Any, probability: Any, **more: Any) -> Any:
    return steer(
        model, tokenizer, arm, *rows, seed=1, score=score, probability=probability, batch_size=4, **more
    )


def test_a_shift_is_found_and_undone(
    toy_model: Any, toy_tokenizer: Any, shifted: Shift, rows: Any, score: Any, probability: Any
) -> None:
    base = residual_states(toy_model, toy_tokenizer, rows[0]["prompt"].tolist(), [1], 4)
    exact = float(SHIFT.norm()) / base.norms[1]
    # The toy model knows nothing, so the choice is driven by how near its answers are to the base's.
    wanted = score(toy_model, rows[0])["answer_probability"].to_numpy()

    def near(model: Any, asked: pd.DataFrame) -> list[float]:
        return list(-abs(score(model, asked)["answer_probability"].to_numpy() - wanted))

    with assert_restored(toy_model):
        attack, control = run(
            toy_model, toy_tokenizer, shifted, rows, score, near, strengths=(exact / 2, exact, exact * 2)
        )
    expected = score(toy_model, rows[1])["answer_probability"].to_numpy()
    assert attack["answer_probability"].to_numpy() == pytest.approx(expected, rel=1e-3)
    assert set(attack["variant"]) == {f"layer 1, strength {exact:g}"}
    assert set(control["variant"]) == {f"layer 1, strength {exact:g}, random direction"}
    assert control["answer_probability"].to_numpy() != pytest.approx(expected, rel=1e-2)


def test_the_base_has_no_direction_and_is_scored_as_it_is(
    toy_model: Any, toy_tokenizer: Any, arm: Any, rows: Any, score: Any, probability: Any
) -> None:
    attack, control = run(toy_model, toy_tokenizer, arm("none"), rows, score, probability)
    assert set(attack["variant"]) == set(control["variant"]) == {UNSTEERED}
    assert attack["answer_probability"].tolist() == probability(toy_model, rows[1])


def test_the_choice_reads_dev_alone_and_test_is_scored_once(
    toy_model: Any, toy_tokenizer: Any, shifted: Shift, rows: Any, score: Any
) -> None:
    chosen_on: list[list[str]] = []
    scored_on: list[list[str]] = []

    def rising(model: Any, asked: pd.DataFrame) -> list[float]:
        chosen_on.append(asked["example_id"].tolist())
        return [float(len(chosen_on))] * len(asked)

    def counting(model: Any, asked: pd.DataFrame) -> pd.DataFrame:
        scored_on.append(asked["example_id"].tolist())
        return score(model, asked)

    run(toy_model, toy_tokenizer, shifted, rows, counting, rising, strengths=(1.0, 2.0))
    # Base and arm agree at block 0: one layer, two strengths, and doing nothing.
    assert chosen_on == [rows[0]["example_id"].tolist()] * 3
    assert scored_on == [rows[1]["example_id"].tolist()] * 2, "the attack and its control"


def test_a_push_that_helps_nobody_is_not_taken(
    toy_model: Any, toy_tokenizer: Any, shifted: Shift, rows: Any, score: Any
) -> None:
    attack, _ = run(toy_model, toy_tokenizer, shifted, rows, score, lambda model, asked: [0.5] * len(asked))
    assert set(attack["variant"]) == {UNSTEERED}


def test_the_control_has_the_same_layer_and_length_and_another_direction() -> None:
    base = States({0: torch.ones(16), 1: torch.ones(16)}, {0: 2.0, 1: 4.0})
    arm = States({0: torch.ones(16), 1: torch.zeros(16)}, {0: 2.0, 1: 9.0})
    (push,) = pushes(base, arm, [0.5])
    assert (push.layer, push.norm) == (1, 4.0), "layer 0 has no difference; the norm is the base's"
    torch.testing.assert_close(push.direction, torch.full((16,), 0.25))
    moved = push.edits()[1](torch.zeros(1, 1, 16), None)
    assert float(moved.norm()) == pytest.approx(2.0)
    control = at_random(push, seed=1)
    assert (control.layer, control.strength, control.norm) == (push.layer, push.strength, push.norm)
    assert float(control.direction.norm()) == pytest.approx(1.0)
    assert abs(float(control.direction @ push.direction)) < 0.9
    assert torch.equal(control.direction, at_random(push, seed=1).direction)
    assert not torch.equal(control.direction, at_random(push, seed=2).direction)


def test_states_know_neither_padding_nor_batches(toy_model: Any, toy_tokenizer: Any) -> None:
    prompts = ["w5 w6 w7 w8 w9", "w10 w11", "w12 w13 w14"]
    alone = residual_states(toy_model, toy_tokenizer, prompts, [0, 1], 1)
    together = residual_states(toy_model, toy_tokenizer, prompts, [0, 1], 3)
    for layer in (0, 1):
        torch.testing.assert_close(alone.means[layer], together.means[layer], rtol=1e-4, atol=1e-6)
        assert alone.norms[layer] == pytest.approx(together.norms[layer], rel=1e-4)


def test_empty_sets_and_strengths_are_refused(
    toy_model: Any, toy_tokenizer: Any, shifted: Shift, rows: Any, score: Any, probability: Any
) -> None:
    with pytest.raises(InputError, match="DEV split"):
        run(toy_model, toy_tokenizer, shifted, (rows[0].head(0), rows[1]), score, probability)
    with pytest.raises(InputError, match="above 0"):
        run(toy_model, toy_tokenizer, shifted, rows, score, probability, strengths=(0.0,))
