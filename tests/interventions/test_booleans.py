"""Every boolean of the configuration has two values that can be reached, and they do different things."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from mmie.configuration import DEFAULT_FILE, Configuration, read_configuration, sections
from mmie.data.cleaning import clean
from mmie.data.options import DataOptions
from mmie.data.records import Record
from mmie.statistics.gate_table import read_gates
from mmie.statistics.gates import Outcome
from mmie.statistics.margins import calibrate_margins
from mmie.statistics.measurement import Measurement
from mmie.statistics.options import Options
from mmie.statistics.verdict import decide

from .conftest import OPTIONS

# Of arms: the options, beside those of the toy arm of that kind, that the boolean stands in.
ARMS: dict[str, tuple[str, Callable[[bool], dict[str, Any]]]] = {
    "LoraArm.dora": ("lora", lambda value: {"dora": value}),
    "LeaceArm.shuffled": ("leace", lambda value: {"shuffled": value}),
    "SubspaceArm.baked": ("subspace", lambda value: {"baked": value}),
    "RmuArm.adaptive": ("rmu", lambda value: {"adaptive": value}),
    "ContrastiveArm.dora": ("contrastive", lambda value: {"dora": value}),
    "ContrastiveArm.head_only": ("contrastive", lambda value: {"head_only": value, **_contrast(True)}),
    "Contrast.head": ("contrastive", lambda value: _contrast(value)),
}


def _contrast(head: bool) -> dict[str, Any]:
    return {"contrast": {**OPTIONS["contrastive"]["contrast"], "head": head}}


def content() -> dict[str, Any]:
    return yaml.safe_load(DEFAULT_FILE.read_text(encoding="utf-8"))


def answer_of_a_wrapped_row(value: bool) -> str:
    """`data.repair_residue`: what is stored of an answer with a quote and comma around it."""
    data = read_configuration({**content(), "data": {**content()["data"], "repair_residue": value}}).data
    record = Record("f", 1, None, "What is it?", '"a country",')
    return str(
        clean([record], "en", "Latn", DataOptions(repair_residue=data.repair_residue)).rows[0]["answer"]
    )


def verdict_of_a_failed_gate(value: bool) -> bool:
    """`gates.*.required`: whether an arm proceeds that fails this gate alone."""
    raw = content()
    raw["gates"]["collapse"]["required"] = value
    gates = read_configuration(raw).model_dump(mode="json")["gates"]
    gate = next(gate for gate in read_gates(gates) if gate.name == "collapse")
    failed = Measurement(
        "preservation", "arm", "collapse", "en", "test", "gibberish", "", "", "", reason="Bad."
    )
    return decide(
        "arm", {"collapse": Outcome(gate, "failed", "collapsed", failed, 1)}, [], Options()
    ).proceeds


def margin_where_retraining_moves_more(value: bool) -> float:
    """`statistics.calibrate_margins`: the margin of `utility` where the oracle loses 0.5 on DEV."""
    raw = {**content(), "statistics": {"calibrate_margins": value}}
    resolved = read_configuration(raw)
    rng = np.random.default_rng(0)
    rows = [
        {
            "arm": arm, "seed": 0, "language": language, "example_id": f"e{item}", "group": f"g{item}",
            "split": "dev", "kind": "direct", "template_split": "trained", "correct": correct,
        }
        for arm in ("base", "oracle_reference")
        for language in resolved.retain
        for item in range(40)
        for correct in [1.0 if arm == "base" else float(rng.random() < 0.5)]
    ]  # fmt: skip
    dumped = resolved.model_dump(mode="json")
    options = Options.from_settings("x", dumped["statistics"], {}, [])
    gates = {"forget": dumped["gates"]["forget"], "utility": dumped["gates"]["utility"]}
    return float(calibrate_margins(pd.DataFrame(rows), gates, resolved.roles, options)["utility"]["used"])


def languages_that_layers_are_scored_on(value: bool) -> dict[str, bool]:
    """`layers.script_blind`: the languages compared, and whether their rows are romanised first."""
    return read_configuration({**content(), "layers": {"script_blind": value}}).scored_languages


STAGES: dict[str, Callable[[bool], Any]] = {
    "Data.repair_residue": answer_of_a_wrapped_row,
    "Layers.script_blind": languages_that_layers_are_scored_on,
    "Gate.required": verdict_of_a_failed_gate,
    "Statistics.calibrate_margins": margin_where_retraining_moves_more,
}


def booleans() -> Iterator[str]:
    for section in {section.__name__: section for section in sections(Configuration)}.values():
        for name, field in section.model_fields.items():
            if field.annotation is bool or bool in get_args(field.annotation):
                yield f"{section.__name__}.{name}"


@pytest.mark.regression("ACT-17")
def test_every_boolean_of_the_configuration_has_a_test_of_its_effect() -> None:
    """A new boolean fails here until its effect stands in one of the two tables above."""
    assert set(booleans()) == {*STAGES, *ARMS}


@pytest.mark.regression("ACT-17")
@pytest.mark.parametrize("name", sorted(STAGES))
def test_both_values_of_a_stage_differ_in_what_is_recorded(name: str) -> None:
    off, on = STAGES[name](False), STAGES[name](True)
    assert off != on


def test_what_the_two_values_of_a_stage_give() -> None:
    assert answer_of_a_wrapped_row(True) == "a country"
    assert not verdict_of_a_failed_gate(True) and verdict_of_a_failed_gate(False)
    assert margin_where_retraining_moves_more(False) == 0.05
    assert margin_where_retraining_moves_more(True) > 0.4
    assert languages_that_layers_are_scored_on(False) == dict.fromkeys(["hi", "hi_Latn", "en", "bn"], False)
    assert languages_that_layers_are_scored_on(True) == {"hi_Latn": False, "en": False, "bn": True}


@pytest.mark.regression("ACT-17")
@pytest.mark.parametrize("name", sorted(ARMS))
def test_both_values_of_an_arm_compute_different_logits(
    name: str, toy_model: Any, fitted: Any, logits: Any
) -> None:
    kind, options = ARMS[name]
    found = []
    for value in (False, True):
        with fitted(kind, **options(value)).applied(toy_model) as changed:
            found.append(logits(changed))
    assert not torch.equal(*found)
