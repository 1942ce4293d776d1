"""An option has one default, one meaning and a reader, wherever it is set."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from mmie import arm_options, layer_options, stage_options, trained_arm_options
from mmie.activations.extract import ExtractionOptions
from mmie.activations.scoring import ScoringOptions
from mmie.activations.selection import Combination, Weights
from mmie.configuration import DEFAULT_FILE, Configuration, sections
from mmie.contrastive.settings import ContrastSettings
from mmie.data.options import DataOptions
from mmie.depth.measure import DepthOptions
from mmie.interventions.fine_tuning import FineTuning
from mmie.interventions.registry import KINDS
from mmie.sae.options import SaeOptions
from mmie.statistics.options import Options
from mmie.training.settings import Curriculum, EarlyStopping, Reweighting, TrainingSettings

ROOT = DEFAULT_FILE.parent.parent
DEFINED_IN = {
    "stage_options.py",
    "layer_options.py",
    "model_options.py",
    "arm_options.py",
    "trained_arm_options.py",
    "configuration.py",
}
STAGES = [
    (stage_options.Data, DataOptions),
    (stage_options.Activations, ExtractionOptions),
    (layer_options.Layers, ScoringOptions),
    (layer_options.Layers, Combination),
    (layer_options.LayerWeights, Weights),
    (stage_options.Sae, SaeOptions),
    (stage_options.Depth, DepthOptions),
    (stage_options.Statistics, Options),
    (trained_arm_options.Training, TrainingSettings),
    (trained_arm_options.FineTuning, FineTuning),
    (trained_arm_options.EarlyStopping, EarlyStopping),
    (trained_arm_options.Reweighting, Reweighting),
    (trained_arm_options.Curriculum, Curriculum),
    (trained_arm_options.Contrast, ContrastSettings),
]


def pairs() -> list[tuple[Any, Any]]:
    """Every section of the schema with the dataclass that it is handed to."""
    arms = [
        (section, KINDS[kind])
        for module in (arm_options, trained_arm_options)
        for section in vars(module).values()
        if isinstance(section, type) and "kind" in getattr(section, "model_fields", {})
        for kind in get_args(section.model_fields["kind"].annotation)
        if kind in KINDS
    ]
    return [*STAGES, *arms]


def code_default(field: dataclasses.Field[Any]) -> Any:
    """What a field is when nothing is given; MISSING where it must be."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def plain(value: Any) -> Any:
    """Lists for tuples; one word for a section within, whose fields are compared as a pair of their own."""
    if dataclasses.is_dataclass(value) or hasattr(value, "model_fields") or value == {}:
        return "section"
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.regression("REP-16")
@pytest.mark.parametrize(("section", "kind"), pairs(), ids=lambda value: value.__name__)
def test_schema_and_code_have_the_same_defaults(section, kind):
    fields = {field.name: code_default(field) for field in dataclasses.fields(kind)}
    differing = {}
    for name, field in section.model_fields.items():
        here = fields.get(name, dataclasses.MISSING)
        if not field.is_required() and here is not dataclasses.MISSING:
            there = field.get_default(call_default_factory=True)
            if plain(there) != plain(here):
                differing[name] = {"schema": there, "code": here}
    assert differing == {}


def test_every_kind_of_arm_is_compared():
    compared = {kind for _, kind in pairs()}
    named = [
        get_args(section.model_fields["kind"].annotation)[0]
        for section in get_args(get_args(arm_options.Arm)[0])
    ]
    assert {KINDS[name] for name in named if name in KINDS} <= compared
    assert len(named) >= 20


def read_names() -> set[str]:
    """Names that code reads as attributes, keys or parameters, outside of the schema itself."""
    names: set[str] = set()
    for path in [*(ROOT / "mmie").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                names.add(node.attr)
            elif path.name not in DEFINED_IN and isinstance(node, ast.arg):
                names.add(node.arg)
            elif path.name not in DEFINED_IN and isinstance(node, ast.Constant):
                names.add(str(node.value))
    for path in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]:
        names |= set(re.findall(r"\w+", Path(path).read_text(encoding="utf-8")))
    return names


@pytest.mark.regression("REP-10")
def test_every_option_is_read():
    read = read_names()
    fields = [(section, name, field) for section in {*sections(Configuration)}
              for name, field in section.model_fields.items()]  # fmt: skip
    assert len(fields) > 150
    assert [f"{section.__name__}.{name}" for section, name, _ in fields if name not in read] == []
