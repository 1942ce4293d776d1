from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mmie.models.hooks import edit
from mmie.training import weighting
from mmie.training.loop import train
from mmie.training.sets import TrainingSets
from mmie.training.settings import Curriculum, Reweighting, TrainingSettings
from mmie.training.weighting import WeightedRows, curriculum_weights, remembered_weights

LOSSES = np.array([0.5, 3.0, 1.0])
"""Mean NLL under the base: row 1 is memorised worst, row 0 best."""


def rows_of(sets: TrainingSets, **more: Any) -> WeightedRows:
    options: dict[str, Any] = {"curriculum": None, "reweighting": None, "language_weights": None}
    examples, reference = sets.forget, sets.reference_nll
    return WeightedRows(examples, reference, seed=1, batch_size=4, **{**options, **more})


@pytest.mark.regression("TRN-15")
def test_easy_first_begins_with_what_is_memorised_worst_and_hard_first_is_its_mirror() -> None:
    easy, hard = Curriculum("easy_first"), Curriculum("hard_first")
    first, second, third = (curriculum_weights(LOSSES, share, easy) for share in (0.0, 0.5, 0.9))
    assert first.argmax() == 1 and first.argmin() == 0
    assert third.argmax() == 0 and third.argmin() == 1
    assert second.tolist() == [1.0, 1.0, 1.0]
    assert np.allclose(curriculum_weights(LOSSES, 0.0, hard), third)
    assert np.allclose(curriculum_weights(LOSSES, 0.9, hard), first)
    # By hand: standardised losses (-1/2 - 1) / s ..., s^2 = (1 + 2.25 + 0.25) / 3.
    spread = math.sqrt(3.5 / 3)
    by_hand = np.exp(np.array([-1.0, 1.5, -0.5]) / spread)
    assert np.allclose(first / first.sum(), by_hand / by_hand.sum())


def test_weights_follow_what_is_still_remembered() -> None:
    # One row as at first, one 1 nat a token less likely, one forgotten beyond the floor.
    weights = remembered_weights(LOSSES + np.array([0.0, 1.0, 1000.0]), LOSSES, Reweighting())
    by_hand = np.array([1.0, math.exp(-1.0), 0.1])
    assert np.allclose(weights, by_hand / by_hand.mean())


@pytest.mark.regression("TRN-12")
def test_curriculum_and_reweighting_multiply_and_each_has_an_effect(toy_sets: TrainingSets) -> None:
    both = rows_of(toy_sets, curriculum=Curriculum(), reweighting=Reweighting())
    remembered = np.linspace(0.1, 2.0, len(toy_sets.forget))
    both.restore(torch.from_numpy(remembered))
    product = remembered * curriculum_weights(both.reference_mean, 0.0, Curriculum())
    assert np.allclose(both.probabilities(0.0), product / product.sum())
    order_alone = rows_of(toy_sets, curriculum=Curriculum())
    weight_alone = rows_of(toy_sets, reweighting=Reweighting())
    weight_alone.restore(torch.from_numpy(remembered))
    for other in (order_alone, weight_alone):
        assert not np.allclose(other.probabilities(0.0), both.probabilities(0.0))


def test_language_weights_set_the_share_of_a_language(toy_sets: TrainingSets) -> None:
    languages = ["xx"] * 9 + ["yy"] * 3
    sets = replace(toy_sets, forget=replace(toy_sets.forget, languages=languages))
    shares = rows_of(sets, curriculum=Curriculum(), language_weights={"xx": 1.0, "yy": 3.0})
    probabilities = shares.probabilities(0.0)
    assert probabilities[9:].sum() == pytest.approx(0.75)


@pytest.mark.regression("TRN-16")
def test_every_row_is_drawn_in_a_long_run(toy_sets: TrainingSets) -> None:
    """Also those that the last pass found forgotten altogether."""
    draws = rows_of(toy_sets, curriculum=Curriculum(), reweighting=Reweighting())
    mean = draws.reference_mean + np.where(np.arange(12) < 6, 0.0, 1e4)
    draws.restore(torch.from_numpy(remembered_weights(mean, draws.reference_mean, Reweighting())))
    seen = {row for step in range(300) for row in draws.draw(5, step, 300)}
    assert seen == set(range(12))


@pytest.mark.regression("TRN-13")
def test_a_run_scores_the_rows_once_a_refresh_and_never_a_step(
    toy_model: Any, shift: Any, toy_sets: TrainingSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []
    original = weighting.answer_sums

    def counting(model: Any, examples: Any, size: int) -> list[float]:
        scored.append(len(examples))
        return original(model, examples, size)

    monkeypatch.setattr(weighting, "answer_sums", counting)
    settings = TrainingSettings(
        steps=10, learning_rate=0.05, forget_batch=5, retain_batch=4,
        curriculum=Curriculum(), reweighting=Reweighting(every=4),
    )  # fmt: skip
    with edit(toy_model, {0: shift}):
        history = train(toy_model, {"vector": shift.vector}, toy_sets, settings, seed=1)
    # With the stored pass of the base that makes texts x (1 + refreshes).
    assert scored == [12, 12]
    assert history.index[history["refreshed"]].tolist() == [4, 8]


@pytest.mark.regression("TRN-14")
def test_a_refresh_after_training_changes_the_weights_and_not_the_difficulty(
    toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    draws = rows_of(toy_sets, curriculum=Curriculum(), reweighting=Reweighting(every=1))
    difficulty = curriculum_weights(draws.reference_mean, 0.0, Curriculum())
    with edit(toy_model, {0: shift}):
        assert not draws.refresh(toy_model, 0)
        assert draws.refresh(toy_model, 1)
        assert np.allclose(draws.remembered, 1.0, atol=1e-4)
        torch.nn.init.normal_(shift.vector, 0.0, 2.0, generator=torch.Generator().manual_seed(1))
        assert draws.refresh(toy_model, 2)
    assert not np.allclose(draws.remembered, 1.0, atol=1e-2)
    assert np.array_equal(curriculum_weights(draws.reference_mean, 0.0, Curriculum()), difficulty)


@pytest.mark.regression("TRN-14")
def test_two_sets_that_share_their_first_ten_rows_get_their_own_weights(toy_sets: TrainingSets) -> None:
    shorter = replace(
        toy_sets, forget=toy_sets.forget.take(range(10)), reference_nll=list(toy_sets.reference_nll)[:10]
    )
    one, other = (rows_of(sets, curriculum=Curriculum()).probabilities(0.0) for sets in (toy_sets, shorter))
    assert len(one) == 12 and len(other) == 10
    assert not np.allclose(one[:10] / one[:10].sum(), other)
