"""What a sweep tries follows from the configuration alone."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from mmie.configuration import DEFAULT_FILE, read_configuration
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


def test_strengths_of_inference_time_arms_are_searched_on_dev() -> None:
    content = yaml.safe_load(DEFAULT_FILE.read_text(encoding="utf-8"))
    added = yaml.safe_load((DEFAULT_FILE.parent / "strengths.yaml").read_text(encoding="utf-8"))
    update_config(content, added)
    configuration = read_configuration(content)
    searched = {
        name: [trial.options["strength"] for trial in configuration.trials(name)]
        for name in configuration.sweep.arms
    }
    assert searched["steer"] == [0.05, 0.1, 0.2, 0.5, 1]
    assert searched["sae-gate"] == [0.5, 1, 2, 5]
    # Every arm with a strength is searched, except for controls, which take that of their arm.
    strong = {name for name, arm in configuration.arms.items() if hasattr(arm, "strength")}
    assert strong - set(searched) == {"steer-random", "sae-random"}
