"""Every arm that trains and every objective, through the command line that a user types.

One Snakemake call on the shipped model; each arm is a job of its own, as in a real run. A random model would
not do: where no answer is known, the gradients of some objectives are rounding noise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mmie.arm_options import Arm
from mmie.objectives.catalogue import FORGET, RETAIN
from tests.training.workflow import linked_project, snakemake, write_yaml

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

TWO_STEPS = {"steps": 2, "forget_batch": 4, "retain_batch": 4}
OWN_LOSS = {"steps": 2, "batch": 4}
# Blocks above the autoencoder's layer are moved by the distance from the base alone. It is 0 at first: the
# second step moves one factor of their adapters, the third the other.
THREE_STEPS = {"steps": 3, "batch": 4}
NEEDS: dict[str, dict[str, Any]] = {
    "gradient_ascent": {"retain_weight": 0},
    "pdu": {"dual_limit": 1.0},
    "hidden": {"retain_layers": [1]},
}
KINDS: dict[str, dict[str, Any]] = {
    "lora": {"training": TWO_STEPS},
    "reft": {"layers": [1], "training": TWO_STEPS},
    "gated_reft": {"layers": [1], "training": TWO_STEPS},
    "negative_reft": {"layers": [1], "training": OWN_LOSS},
    "lingtea": {"training": OWN_LOSS},
    "crisp": {"features": 4, "training": THREE_STEPS},
    "full": {"training": TWO_STEPS},
    "task_vector": {"training": OWN_LOSS},
    "rmu": {"layer": 1, "depth": 2, "training": OWN_LOSS},
    "contrastive": {
        "triples": ["data/atlas/triples/hi.jsonl"],
        "contrast_layers": [1],
        "contrast": {"batch": 2},
        "training": TWO_STEPS,
    },
}
"""One arm of every kind whose configuration has a block `training`."""


def arms() -> dict[str, Any]:
    """Every kind with its own default objective, and LoRA with every other one."""
    made: dict[str, Any] = {f"kind-{kind}": {"kind": kind, **options} for kind, options in KINDS.items()}
    for name in FORGET:
        own = {**TWO_STEPS, "objective": name, **NEEDS.get(name, {})}
        made[f"forget-{name}"] = {"kind": "lora", "rank": 2, "training": own}
    for name in RETAIN:
        own = {**TWO_STEPS, "retain_objective": name, **NEEDS.get(name, {})}
        made[f"retain-{name}"] = {"kind": "lora", "rank": 2, "training": own}
    cached = {**TWO_STEPS, "reference": "cached"}
    made["cached"] = {"kind": "lora", "rank": 2, "training": cached}
    return made


def trained_kinds() -> set[str]:
    """Kinds whose configuration has a block `training`."""
    union = Arm.__origin__.__args__  # type: ignore[attr-defined]
    sections = [section for section in union if "training" in section.model_fields]
    return {section.model_fields["kind"].annotation.__args__[0] for section in sections}


@pytest.mark.regression("TRN-01")
def test_every_arm_and_objective_trains_by_the_real_command(tmp_path: Path) -> None:
    assert set(KINDS) == trained_kinds()
    folder = linked_project(tmp_path)
    default = dict.fromkeys(("base", "oracle", "broken", "lora-npo", "reft-npo", "sae-gate", "sae-random"))
    config = {
        "experiment": "every-arm",
        "seeds": [1],
        "model": {"oracle": None},
        "data": {"corpora": {"ur": None, "pa": None}},
        "arms": {**default, **arms()},
    }
    name = write_yaml(folder / "every.yaml", config)
    wanted = [f"results/every-arm/arms/{arm}/seed1" for arm in arms()]
    done = snakemake(folder, "--cores", "2", "--configfile", name, "--keep-going", "--", *wanted)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    for arm, options in arms().items():
        made = folder / f"results/every-arm/arms/{arm}/seed1"
        history = pd.read_parquet(made / "history.parquet")
        assert len(history) == options["training"]["steps"], arm
        losses = history[[column for column in history if column.endswith("_loss")]]
        # Terms may take turns, but no step is without a finite loss.
        assert losses.notna().any(axis=1).all(), arm
        assert json.loads((made / "manifest.json").read_text())["config"]["kind"] == options["kind"]
