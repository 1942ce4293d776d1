"""Processes and configuration: one job an arm and seed, one load a job, and whose word counts."""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from mmie.interventions import FitData, build
from mmie.models.loading import save_model
from mmie.training.reference import reference_log_likelihoods
from tests.training.workflow import ROOT, linked_project, snakemake, write_yaml

TRAINING = {"steps": 2, "forget_batch": 4, "retain_batch": 4, "learning_rate": 0.05}


@pytest.mark.regression("MEM-04")
def test_the_workflow_has_one_job_for_each_arm_and_seed(tmp_path: Path) -> None:
    """Two arms that train, three seeds, and two arms without any: eight jobs, eight folders."""
    folder = linked_project(tmp_path)
    config = {"seeds": [1, 2, 3], "layers": {"method": "middle"}, "arms": {"oracle": None}}
    arms = {"lora-npo": 3, "reft-npo": 3, "base": 1, "broken": 1}
    wanted = [
        f"results/atlas-hi/arms/{arm}/seed{seed}"
        for arm, seeds in arms.items()
        for seed in (range(1, 4) if seeds == 3 else [0])
    ]
    name = write_yaml(folder / "seeds.yaml", config)
    planned = snakemake(folder, "--dry-run", "--cores", "1", "--configfile", name, "--", *wanted)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    text = planned.stdout + planned.stderr
    assert re.findall(r"^arm\s+(\d+)\s*$", text, re.MULTILINE)[-1] == "8"
    jobs = re.findall(r"Fitting (\S+) \(seed (\d)\)", text)
    assert sorted(f"results/atlas-hi/arms/{arm}/seed{seed}" for arm, seed in jobs) == sorted(wanted)


@pytest.mark.regression("MEM-04")
def test_a_fitted_arm_leaves_nothing_behind_in_the_process(
    toy_model: Any, toy_tokenizer: Any, toy_rows: Any
) -> None:
    forget = toy_rows("xx")
    data = FitData(
        tokenizer=toy_tokenizer,
        forget=forget,
        retain=toy_rows("yy", first_word=31),
        reference=reference_log_likelihoods(toy_model, toy_tokenizer, forget),
    )

    def live(seed: int) -> int:
        build({"kind": "lora", "rank": 2, "training": TRAINING}).fit(toy_model, data, seed=seed)
        gc.collect()
        return sum(isinstance(item, torch.Tensor) for item in gc.get_objects())

    counts = [live(seed) for seed in range(4)]
    # The first fit may fill caches of libraries.
    assert counts[1:] == [counts[1]] * 3


COUNTING = """
import json, runpy, sys
from pathlib import Path
from types import SimpleNamespace
from snakemake.iocontainers import InputFiles, OutputFiles
from transformers import PreTrainedModel

loads = []
original = PreTrainedModel.from_pretrained.__func__
def counted(cls, *given, **more):
    loads.append(cls.__name__)
    return original(cls, *given, **more)
PreTrainedModel.from_pretrained = classmethod(counted)

work, options = Path(sys.argv[1]), json.loads(sys.argv[2])
rows = [str(work / f"{name}.parquet") for name in ("xx", "yy")]
references = [str(work / f"reference/{name}.parquet") for name in ("xx", "yy")]
snakemake = SimpleNamespace(
    input=InputFiles(fromdict={"base": str(work / "base"), "rows": rows, "reference": references}),
    output=OutputFiles(fromdict={"folder": str(work / "arm")}),
    params=SimpleNamespace(
        options=options, forget=["xx"], retain=["yy"], model={"device": "cpu", "dtype": "float32"},
        checkpoints=str(work / "checkpoints"), experiment="x", tracking=str(work / "tracking"),
    ),
    wildcards=SimpleNamespace(seed="1", arm="x"), threads=1, log=[], config={},
)
runpy.run_path(sys.argv[3], init_globals={"snakemake": snakemake})
(work / "loads.json").write_text(json.dumps(loads))
"""


@pytest.mark.regression("MEM-05")
def test_the_job_of_an_arm_loads_the_base_once(
    tmp_path: Path, toy_model: Any, toy_tokenizer: Any, toy_rows: Any
) -> None:
    """The real script, with reference, held-out rows and re-weighting: whatever might want a model."""
    (tmp_path / "base").mkdir()
    save_model(toy_model, toy_tokenizer, tmp_path / "base")
    (tmp_path / "base/manifest.json").write_text("{}")
    (tmp_path / "reference").mkdir()
    for language, first_word in (("xx", 4), ("yy", 31)):
        rows: pd.DataFrame = toy_rows(language, first_word=first_word).assign(kind="direct")
        rows.to_parquet(tmp_path / f"{language}.parquet")
        table = reference_log_likelihoods(toy_model, toy_tokenizer, rows)
        table.to_parquet(tmp_path / f"reference/{language}.parquet")
    training = {**TRAINING, "steps": 4, "reweighting": {"every": 2}, "early_stopping": {"every": 2}}
    options = json.dumps({"kind": "lora", "rank": 2, "training": training})
    done = subprocess.run(
        [sys.executable, "-c", COUNTING, str(tmp_path), options, str(ROOT / "scripts/arm.py")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "arm/manifest.json").is_file()
    assert len(json.loads((tmp_path / "loads.json").read_text())) == 1


PROBE = """
from pathlib import Path
include: "Snakefile"
Path("resolved.json").write_text(experiment.model_dump_json())
"""


@pytest.mark.slow
@pytest.mark.regression("TRN-26")
def test_the_command_line_beats_the_experiment_the_model_file_and_the_defaults(tmp_path: Path) -> None:
    """One key of each type is set on one more level in each run; every level keeps what it alone sets."""
    folder = linked_project(tmp_path)
    (folder / "probe.smk").write_text(PROBE)
    # Default, model file, experiment file, command line.
    levels: dict[str, tuple[Any, Any, Any, Any]] = {
        "text": ("data/nano", "data/nano-oracle", "./data/nano", "data/../data/nano"),
        "whole": (150, 7, 8, 9),
        "real": (1.0, 0.5, 0.25, 0.125),
        "list": ([1, 2, 3], [4], [5, 6], [7]),
        "flag": (True, False, True, False),
    }
    places = {
        "text": ("model", "base"),
        "whole": ("evaluation", "items"),
        "real": ("arms", "broken", "scale"),
        "list": ("seeds",),
        "flag": ("statistics", "calibrate_margins"),
    }
    files = []
    for level in range(4):
        given: dict[str, Any] = {}
        for key, place in places.items():
            _put(given, place, levels[key][level])
        if level in (1, 2):
            files.append(write_yaml(folder / f"level{level}.yaml", given))
        command = ["--configfile", *files] if files else []
        if level == 3:
            command += ["--config", *(f"{name}={json.dumps(value)}" for name, value in given.items())]
        done = snakemake(folder, "--snakefile", "probe.smk", "--list-rules", *command)
        assert done.returncode == 0, done.stdout + done.stderr
        resolved = json.loads((folder / "resolved.json").read_text())
        for key, place in places.items():
            assert _get(resolved, place) == levels[key][level], (key, level)
        # What no level sets stays the default: a block that is given in part is not replaced as a whole.
        assert _get(resolved, ("arms", "lora-npo", "rank")) == 8


def _put(content: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    *way, name = place
    for part in way:
        content = content.setdefault(part, {})
    content[name] = value


def _get(content: Any, place: tuple[str, ...]) -> Any:
    for part in place:
        content = content[part]
    return content
