import importlib
import inspect
from pathlib import Path

import pytest

from mmie.evaluation import SCORES
from mmie.metrics.registry import REGISTRY
from mmie.statistics import scores as statistics

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


def implementation(path: str):
    parts = path.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:depth]))
        except ModuleNotFoundError:
            continue
        for name in parts[depth:]:
            found = getattr(found, name)
        return found
    raise AssertionError(f"{path} does not exist")


@pytest.mark.regression("EVA-15")
def test_every_score_of_a_row_is_registered_once_and_nothing_else_is() -> None:
    assert sorted(REGISTRY) == sorted(SCORES)
    # These need shadow models, which nothing here has.
    assert not [name for name in REGISTRY if "lira" in name.lower()]


@pytest.mark.regression("EVA-15")
@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_registered_function_exists_and_says_what_it_computes(name) -> None:
    function = implementation(REGISTRY[name].function)
    assert callable(function)
    assert len(inspect.getdoc(function) or "") > 40


@pytest.mark.regression("EVA-26")
@pytest.mark.parametrize("name", sorted(set(REGISTRY) & set(statistics.SCORES)))
def test_direction_is_the_same_wherever_a_score_is_read(name) -> None:
    assert REGISTRY[name].direction == statistics.direction(name, forget=True, cell="test")


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_score_is_documented(name) -> None:
    assert f"`{name}`" in DOCUMENT
