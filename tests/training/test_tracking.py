"""Experiment trackers: they see what the history holds, decide nothing, and are never left out in silence."""

from __future__ import annotations

import json
import logging
import random
import socket
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from mmie.configuration import read_configuration
from mmie.errors import InputError
from mmie.interventions import FitData, build
from mmie.training import loop
from mmie.training.checkpoint import newest_checkpoint
from mmie.training.reference import reference_log_likelihoods
from mmie.training.tracking import RUNS, Tracked, generators_kept, tracked_run
from tests.training.workflow import ROOT, linked_project, snakemake, write_yaml

OPTIONS = {
    "kind": "lora",
    "rank": 2,
    "training": {
        "steps": 6, "forget_batch": 4, "retain_batch": 4, "learning_rate": 0.05, "checkpoint_every": 2,
        "early_stopping": {"every": 2, "patience": 9, "held_out_share": 0.25},
    },
}  # fmt: skip
Curve = dict[str, dict[int, float]]
"""By name, the numbers of each step."""


@pytest.fixture
def data(toy_model: Any, toy_tokenizer: Any, toy_rows: Callable[..., pd.DataFrame]) -> FitData:
    forget = toy_rows("xx")
    return FitData(
        tokenizer=toy_tokenizer,
        forget=forget,
        retain=toy_rows("yy", first_word=31),
        reference=reference_log_likelihoods(toy_model, toy_tokenizer, forget),
    )


@pytest.fixture(params=sorted(RUNS))
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each tracker whose package is installed; the development requirements hold one."""
    name = str(request.param)
    pytest.importorskip(name, reason=f"the package {name} is not installed")
    if name == "trackio":
        # The package reads its folder once, when it is imported; a job imports it once.
        own = [module for module in sys.modules if module.split(".")[0] == "trackio"]
        for module in own:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.delenv("TRACKIO_DIR", raising=False)
    return name


def opened(backend: str, folder: Path, **section: Any) -> Any:
    return tracked_run(
        {"backend": backend, "project": "unlearning", **section},
        experiment="toy", arm="lora-npo", seed=1, options=OPTIONS, folder=folder / "tracking",
    )  # fmt: skip


def fitted(model: Any, data: FitData, **more: Any) -> Any:
    arm = build(OPTIONS)
    arm.fit(model, FitData(**{**vars(data), **more}), seed=1)
    return arm


def runs_of(backend: str, folder: Path) -> list[tuple[str, dict[str, Any], Curve]]:
    """Name, configuration and curves of every stored run, oldest first."""
    readers = {"trackio": runs_of_trackio, "wandb": runs_of_wandb, "mlflow": runs_of_mlflow}
    return readers[backend](folder / "tracking")


def runs_of_trackio(folder: Path) -> list[tuple[str, dict[str, Any], Curve]]:
    with sqlite3.connect(folder / "unlearning.db") as database:
        names = database.execute("select run_id, run_name, config from configs order by id").fetchall()
        rows = database.execute("select run_id, step, metrics from metrics order by id").fetchall()
    runs = []
    for identifier, name, config in names:
        curve: Curve = {}
        for owner, step, metrics in rows:
            if owner == identifier:
                for key, value in json.loads(metrics).items():
                    assert step not in curve.setdefault(key, {})
                    curve[key][step] = value
        runs.append((name, json.loads(config), curve))
    return runs


def runs_of_wandb(folder: Path) -> list[tuple[str, dict[str, Any], Curve]]:
    from wandb.proto.wandb_internal_pb2 import Record

    # The names of the folders end in random letters and begin with a time in whole seconds.
    files = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"), key=lambda file: file.stat().st_mtime)
    runs = []
    for file in files:
        name, config, curve = "", {}, {}
        for record in finished_records(file, Record):
            if record.WhichOneof("record_type") == "run":
                name = record.run.display_name
                config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            if record.WhichOneof("record_type") == "history":
                row = {item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                step = row.pop("_step")
                for key, value in row.items():
                    if not key.startswith("_"):
                        assert step not in curve.setdefault(key, {})
                        curve[key][step] = value
        runs.append((name, config, curve))
    return runs


def finished_records(file: Path, kind: Any) -> list[Any]:
    """All records; the process of wandb writes the last ones a moment after the run is closed."""
    deadline = time.monotonic() + 20
    while True:
        records = [kind.FromString(content) for content in wandb_records(file.read_bytes())]
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        assert time.monotonic() < deadline, f"{file}: no end after 20 seconds"
        time.sleep(0.05)


def wandb_records(content: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log in blocks of 32 KiB, after a header of seven bytes."""
    at, record = 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        if at + 7 + length > len(content):
            return
        record, at = record + content[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def runs_of_mlflow(folder: Path) -> list[tuple[str, dict[str, Any], Curve]]:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    found = client.get_experiment_by_name("unlearning")
    runs = []
    for run in client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"]):
        curve: Curve = {}
        for key in run.data.metrics:
            points = client.get_metric_history(run.info.run_id, key)
            assert len({point.step for point in points}) == len(points)
            curve[key] = {point.step: point.value for point in points}
        runs.append((run.info.run_name, dict(run.data.params), curve))
    return runs


def curves(history: pd.DataFrame) -> Curve:
    """What a tracker should hold: every number of the history at its step."""
    found: Curve = {}
    for row in history.drop(columns="chosen").to_dict("records"):
        step = int(row.pop("step"))
        for name, value in row.items():
            if pd.notna(value):
                found.setdefault(str(name), {})[step] = float(value)
    return found


def test_a_tracker_holds_the_history_of_the_arm(
    backend: str, tmp_path: Path, toy_model: Any, data: FitData
) -> None:
    with opened(backend, tmp_path) as observe:
        arm = fitted(toy_model, data, observe=observe)
    ((name, config, found),) = runs_of(backend, tmp_path)
    assert name == "toy/lora-npo/seed1"
    assert str(config["seed"]) == "1" and config["arm"] == "lora-npo"
    expected = curves(arm.history)
    assert {"forget_loss", "retain_loss", "lr", "tokens", "held_out"} <= set(expected)
    assert len(expected["forget_loss"]) == 6 and sorted(expected["held_out"]) == [1, 3, 5]
    assert set(found) == set(expected)
    for key, points in expected.items():
        assert found[key] == pytest.approx(points, rel=1e-12), key


def test_a_tracker_changes_neither_weights_nor_the_identity_of_a_run(
    backend: str, tmp_path: Path, toy_model: Any, data: FitData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun without a tracker, killed, taken up with one: the same run, and the same bytes."""
    whole = fitted(toy_model, data)
    killed_after(monkeypatch, 4, lambda: fitted(toy_model, data, checkpoints=tmp_path / "state"))
    (identity,) = {path.name for path in (tmp_path / "state").iterdir()}
    with opened(backend, tmp_path) as observe:
        tracked = fitted(toy_model, data, checkpoints=tmp_path / "state", observe=observe)
    assert [path.name for path in (tmp_path / "state").iterdir()] == [identity]
    assert whole.fitted.tensors and tracked.fitted.tensors.keys() == whole.fitted.tensors.keys()
    for name, value in whole.fitted.tensors.items():
        assert torch.equal(tracked.fitted.tensors[name], value), name
    assert tracked.history.equals(whole.history)


def test_a_resumed_run_has_the_whole_curve_and_no_step_twice(
    backend: str, tmp_path: Path, toy_model: Any, data: FitData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the fourth step: an attempt with steps 0 to 2, then one with all six."""
    state = tmp_path / "state"

    def attempt() -> Any:
        with opened(backend, tmp_path) as observe:
            return fitted(toy_model, data, checkpoints=state, observe=observe)

    killed_after(monkeypatch, 3, attempt)
    arm = attempt()
    first, second = runs_of(backend, tmp_path)
    assert first[0] == second[0] == "toy/lora-npo/seed1"
    assert sorted(first[2]["forget_loss"]) == [0, 1, 2]
    assert sorted(second[2]["forget_loss"]) == [0, 1, 2, 3, 4, 5]
    assert second[2]["forget_loss"] == pytest.approx(curves(arm.history)["forget_loss"], rel=1e-12)


def test_nothing_is_asked_of_the_network(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even by a user who is logged in to the Hub."""
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    asked: list[Any] = []

    def refused(*given: Any, **more: Any) -> Any:
        asked.append(given)
        raise OSError("no network here")

    real = socket.socket.connect
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(
        socket.socket,
        "connect",
        lambda own, address: real(own, address) if own.family == socket.AF_UNIX else refused(address),
    )
    with opened(backend, tmp_path) as observe:
        observe({"step": 0, "forget_loss": 1.5})
    assert not asked
    ((_, _, found),) = runs_of(backend, tmp_path)
    assert found == {"forget_loss": {0: 1.5}}


def killed_after(monkeypatch: pytest.MonkeyPatch, steps: int, run: Callable[[], Any]) -> None:
    """Ctrl-C in the step after `steps`."""
    original, done = loop.take_step, [0]

    def dying(*given: Any) -> Any:
        if done[0] == steps:
            raise KeyboardInterrupt
        done[0] += 1
        return original(*given)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", dying)
        with pytest.raises(KeyboardInterrupt):
            run()


class FullDisk:
    """A tracker on a full disk, from its third step on."""

    failures = (OSError,)

    def __init__(self, error: type[Exception] | None = None) -> None:
        self.steps: list[int] = []
        self.closed: list[bool] = []
        self.error = error

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self.steps.append(step)
        if step == 2 and self.error:
            raise self.error("as told")
        if step == 2:
            Path("/dev/full").write_text("a number")

    def close(self, *, finished: bool) -> None:
        self.closed.append(finished)


def test_a_tracker_that_fails_is_left_with_one_warning_and_training_goes_on(
    toy_model: Any, data: FitData, caplog: pytest.LogCaptureFixture
) -> None:
    run = FullDisk()
    tracked = Tracked(run, "toy/lora-npo/seed1")
    with caplog.at_level(logging.WARNING):
        arm = fitted(toy_model, data, observe=tracked)
        tracked.close(finished=True)
    assert run.steps == [0, 1, 2]
    assert len(arm.history) == 6
    (warning,) = [record.getMessage() for record in caplog.records if "tracking" in record.getMessage()]
    assert warning.startswith("toy/lora-npo/seed1: tracking stopped, training goes on (OSError: [Errno 28]")


def test_an_error_that_is_no_failure_of_the_tracker_is_raised_and_the_step_is_kept(
    tmp_path: Path, toy_model: Any, data: FitData
) -> None:
    with pytest.raises(TypeError, match="as told"):
        fitted(toy_model, data, checkpoints=tmp_path, observe=Tracked(FullDisk(TypeError), "x"))
    (state,) = tmp_path.glob("*/step-00000003/state.json")
    assert newest_checkpoint(tmp_path, json.loads(state.read_text())["identity"]) is not None


def test_a_run_knows_whether_training_came_to_its_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = FullDisk()
    monkeypatch.setitem(RUNS, "trackio", lambda plan: run)
    with pytest.raises(SystemExit), opened("trackio", tmp_path):
        raise SystemExit(143)
    with opened("trackio", tmp_path):
        pass
    assert run.closed == [False, True]


def test_a_tracker_that_draws_random_numbers_takes_none_from_training() -> None:
    before = random.getstate(), torch.get_rng_state()
    with generators_kept():
        random.random()
        torch.rand(3)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("name", sorted(RUNS))
def test_a_tracker_that_is_not_installed_is_an_error_before_a_model_is_loaded(
    name: str, tmp_path: Path
) -> None:
    """The real script, without a base model to load: it never gets that far."""
    program = f"""
import runpy, sys
from types import SimpleNamespace
sys.modules[{name!r}] = None
snakemake = SimpleNamespace(
    input=SimpleNamespace(base="nowhere"), output=["{tmp_path}/arm"], log=[], threads=1,
    wildcards=SimpleNamespace(seed="1", arm="lora-npo"),
    params=SimpleNamespace(
        options={OPTIONS!r}, model={{"device": "cpu", "dtype": "float32"}}, experiment="toy",
        tracking="{tmp_path}/tracking",
    ),
    config={{"tracking": {{"backend": {name!r}}}}},
)
runpy.run_path({str(ROOT / "scripts/arm.py")!r}, init_globals={{"snakemake": snakemake}})
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"tracking.backend: the package {name} is not installed" in line
    assert {"mlflow": "`pip install mlflow-skinny alembic`"}.get(name, f"`pip install {name}`") in line


def test_without_the_section_and_for_arms_that_do_not_train_nothing_is_opened(tmp_path: Path) -> None:
    given: dict[str, Any] = {"experiment": "toy", "arm": "x", "seed": 1, "folder": tmp_path / "tracking"}
    with tracked_run(None, options=OPTIONS, **given) as observe:
        assert observe is None
    with tracked_run({"backend": "wandb"}, options={"kind": "noise", "scale": 1.0}, **given) as observe:
        assert observe is None
    assert not (tmp_path / "tracking").exists()
    done = subprocess.run(
        [sys.executable, "-c", "import sys, mmie.training.tracking; print(*sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert not {"torch", *RUNS} & set(done.stdout.split())


@pytest.mark.parametrize("variable", ["TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"])
def test_a_variable_that_would_send_runs_away_is_an_error(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "https://example.org")
    with (
        pytest.raises(InputError, match=rf"\${variable} would send runs to a server"),
        opened("trackio", tmp_path),
    ):
        pass


def configured(tracking: Any) -> Any:
    return read_configuration(
        {"data": {"corpora": dict.fromkeys(("hi", "en", "bn"), "x")}, "tracking": tracking}
    )


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"backend": "tensorboard"}, "tracking.backend: .*trackio"),
        ({"backend": "wandb", "projct": "x"}, "Did you mean 'project'"),
        ({"backend": "trackio", "mode": "online"}, "mode is for wandb alone"),
        ({"backend": "wandb", "tracking_uri": "http://x"}, "tracking_uri is for mlflow alone"),
        ({"project": "x"}, "tracking.backend: Field required"),
    ],
)
def test_a_wrong_key_is_named(section: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        configured(section)


def test_tracking_is_in_no_dump_of_the_configuration_that_decides_what_runs_again() -> None:
    on, off = configured({"backend": "mlflow", "project": "x"}), configured(None)
    assert on.tracking.backend == "mlflow" and off.tracking is None
    assert on.model_dump(mode="json") == off.model_dump(mode="json")
    assert "tracking" not in on.model_dump_json()


@pytest.mark.slow
@pytest.mark.workflow
def test_turning_tracking_on_fits_no_finished_arm_again(tmp_path: Path) -> None:
    """The real workflow without a tracker; then planned with one, and with another rank."""
    folder = linked_project(tmp_path)
    arm = {"kind": "lora", "rank": 2, "training": {"steps": 2, "forget_batch": 4, "retain_batch": 4}}
    default = ("base", "oracle", "broken", "lora-npo", "reft-npo", "sae-gate", "sae-random")
    config = {
        "experiment": "tracked",
        "seeds": [1],
        "model": {"oracle": None},
        "data": {"corpora": {"ur": None, "pa": None}},
        "arms": {**dict.fromkeys(default), "small": arm},
    }
    other = {**config, "arms": {**config["arms"], "small": {**arm, "rank": 3}}}
    files = {
        name: write_yaml(folder / f"{name}.yaml", content)
        for name, content in {
            "off": config, "on": {**config, "tracking": {"backend": "wandb"}}, "other": other,
        }.items()
    }  # fmt: skip
    wanted = ["--", "results/tracked/arms/small/seed1"]
    done = snakemake(folder, "--cores", "2", "--configfile", files["off"], *wanted)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]

    def planned(name: str) -> str:
        plan = snakemake(folder, "--dry-run", "--cores", "1", "--configfile", files[name], *wanted)
        assert plan.returncode == 0, plan.stderr
        return plan.stdout + plan.stderr

    assert "Nothing to be done" in planned("on")
    assert "Fitting small (seed 1)" in planned("other")
