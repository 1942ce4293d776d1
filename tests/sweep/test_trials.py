"""What a sweep tries follows from the configuration alone."""

from __future__ import annotations

from typing import Any

import pytest

from mmie.errors import InputError
from mmie.sweep.trials import changed, trials

OPTIONS: dict[str, Any] = {"kind": "lora", "rank": 8, "training": {"learning_rate": 0.001, "steps": 150}}
GRID: dict[str, list[Any]] = {"training.learning_rate": [0.001, 0.01, 0.1], "rank": [2, 4]}


def test_a_grid_is_every_combination_whatever_the_order_of_its_keys() -> None:
    found = trials("lora", OPTIONS, GRID)
    assert [trial.number for trial in found] == [0, 1, 2, 3, 4, 5]
    assert found[1].changes == {"rank": 2, "training.learning_rate": 0.01}
    assert found[1].options == {"kind": "lora", "rank": 2, "training": {"learning_rate": 0.01, "steps": 150}}
    assert found == trials("lora", OPTIONS, dict(reversed(GRID.items())))
    assert len({trial.name for trial in found}) == 6
    assert OPTIONS["training"] == {"learning_rate": 0.001, "steps": 150}


def test_a_trial_keeps_its_name_when_the_grid_grows() -> None:
    before = {trial.name: trial.options for trial in trials("lora", OPTIONS, GRID)}
    wider = trials("lora", OPTIONS, {**GRID, "rank": [1, 2, 4]})
    after = {trial.name: trial.options for trial in wider}
    assert len(after) == 9
    assert {name: after[name] for name in before} == before


def test_random_search_draws_without_replacement_and_by_seed() -> None:
    whole = trials("lora", OPTIONS, GRID)
    drawn = trials("lora", OPTIONS, GRID, draws=3, seed=5)
    assert len({trial.number for trial in drawn}) == 3
    assert all(trial in whole for trial in drawn)
    assert drawn == trials("lora", OPTIONS, GRID, draws=3, seed=5)
    assert any(trials("lora", OPTIONS, GRID, draws=3, seed=seed) != drawn for seed in range(6, 12))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"learning_rate": [0.1]}, "'learning_rate' is no option of the arm"),
        ({"training.learning_rates": [0.1]}, "'training.learning_rates' is no option"),
        ({"training": [1]}, "is a section"),
        ({"rank": []}, "must hold different values"),
        ({"rank": [2, 2]}, "must hold different values"),
    ],
)
def test_a_grid_that_changes_nothing_is_an_error_that_names_the_key(
    grid: dict[str, list[Any]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        trials("lora", OPTIONS, grid)


def test_more_draws_than_configurations_are_refused() -> None:
    with pytest.raises(InputError, match="the grid has 6"):
        trials("lora", OPTIONS, GRID, draws=7)


def test_one_value_is_changed_and_the_rest_stays() -> None:
    assert changed("lora", OPTIONS, {"training.steps": 3})["training"] == {"learning_rate": 0.001, "steps": 3}
