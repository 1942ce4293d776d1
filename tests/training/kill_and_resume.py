"""A program for tests: train a LoRA arm in processes that are killed at given forward passes.

    python kill_and_resume.py OUT OPTIONS_JSON

Libraries are imported once; every run is a fork of this process, killed by a real SIGKILL. Each folder of
OUT then holds what one arm ended with; `whole` was never killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import peft  # noqa: F401
import torch
from conftest import toy_model, toy_rows, toy_tokenizer

from mmie.interventions.interface import FitData
from mmie.interventions.registry import build
from mmie.io import atomic_directory, write_json
from mmie.training.reference import reference_log_likelihoods

KILLS = 10
torch.set_num_threads(1)


def fit(out: Path, training: dict[str, Any], kill: int, stop: int = signal.SIGKILL) -> int:
    """Fit and save an arm, sending a signal to itself in forward pass `kill`; return the passes made."""
    model, tokenizer, rows = (fixture.__wrapped__() for fixture in (toy_model, toy_tokenizer, toy_rows))
    forget, retain = rows("xx"), rows("yy", first_word=31)
    reference = reference_log_likelihoods(model, tokenizer, forget)
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        if passes == kill:
            os.kill(os.getpid(), stop)
        passes += 1

    model.model.register_forward_hook(count)
    arm = build({"kind": "lora", "rank": 2, "alpha": 4.0, "training": training})
    data = FitData(
        tokenizer=tokenizer,
        forget=forget,
        retain=retain,
        reference=reference,
        checkpoints=out / "checkpoints",
    )
    arm.fit(model, data, seed=1)
    assert arm.history is not None
    with atomic_directory(out / "arm") as folder:
        arm.save(folder)
        write_json(folder / "history.json", arm.history.to_dict("list"))
        write_json(folder / "passes.json", passes)
    return passes


def in_child(out: Path, training: dict[str, Any], kill: int) -> int:
    """Run `fit` in a process of its own; return its status as `os.waitstatus_to_exitcode` gives it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            fit(out, training, kill)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    out, training = Path(sys.argv[1]), json.loads(sys.argv[2])
    # Imports of the model's library, too, are made before the first fork.
    toy_model.__wrapped__(), toy_tokenizer.__wrapped__()
    assert in_child(out / "whole", training, -1) == 0
    passes = json.loads((out / "whole/arm/passes.json").read_text())
    # Any pass may be hit: a micro-batch, a reference, a refresh, a measurement.
    for number, kill in enumerate(sorted(random.Random(7).sample(range(passes), KILLS))):
        killed = out / f"killed{number}"
        assert in_child(killed, training, kill) == -signal.SIGKILL
        assert not (killed / "arm").exists()
        assert in_child(killed, training, -1) == 0


if __name__ == "__main__":
    main()
