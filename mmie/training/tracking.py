"""A copy of the training history in an experiment tracker, made while an arm trains.

The history of an arm is complete without it. Nothing is imported unless the configuration has a section
`tracking`, and nothing leaves the machine unless that section says so.
"""

from __future__ import annotations

import fcntl
import importlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from pydantic import Field, model_validator

from mmie.errors import InputError
from mmie.trained_arm_options import Section

log = logging.getLogger(__name__)


class Tracking(Section):
    """A copy of every arm's training history in an experiment tracker; it decides nothing."""

    backend: Literal["trackio", "wandb", "mlflow"] = Field(
        description="Package that keeps the runs; it must be installed, as with `pip install trackio`."
    )
    project: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Project (mlflow: experiment) of the runs; null for the name of the experiment.",
    )
    mode: Literal["offline", "online"] = Field(
        "offline", description="`online` sends runs to the server that wandb is logged in to; wandb alone."
    )
    tracking_uri: str | None = Field(
        None, min_length=1, description="Server or store of mlflow; null for a local file. mlflow alone."
    )

    @model_validator(mode="after")
    def _of_this_backend(self) -> Self:
        for key, owner in (("mode", "wandb"), ("tracking_uri", "mlflow")):
            if getattr(self, key) != type(self).model_fields[key].default and self.backend != owner:
                raise ValueError(f"{key} is for {owner} alone: take it out, or set backend: {owner}")
        return self


@dataclass(frozen=True)
class Plan:
    """What a tracker is told when a run begins."""

    project: str
    name: str
    """`{experiment}/{arm}/seed{seed}`."""
    group: str
    """`{experiment}/{arm}`, the same for all seeds."""
    options: Mapping[str, Any]
    """Resolved options of the arm, and its seed."""
    folder: Path
    """Where local files of the tracker go."""
    tracking: Tracking


class Run(Protocol):
    """One run in one tracker."""

    failures: tuple[type[Exception], ...]
    """What the tracker raises when it cannot write; anything else is an error of MMIE."""

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Store the numbers of one step."""

    def close(self, *, finished: bool) -> None:
        """Write what is left; `finished` is False where training did not come to its end."""


class TrackioRun:
    """trackio: an SQLite file `{project}.db` in the folder, or in $TRACKIO_DIR.

    trackio raises nothing: what it could not write it drops, with one warning of its own.
    """

    def __init__(self, plan: Plan) -> None:
        """Open a run; hardware is not watched."""
        for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
            if name in os.environ:
                raise InputError(f"tracking.backend: ${name} would send runs to a server. Unset it.")
        os.environ.setdefault("TRACKIO_DIR", str(plan.folder.resolve()))
        trackio = imported("trackio")
        self.failures: tuple[type[Exception], ...] = (OSError,)
        with hub_offline():
            self._run = trackio.init(
                project=plan.project, name=plan.name, group=plan.group, config=dict(plan.options),
                embed=False, auto_log_gpu=False, auto_log_cpu=False,
            )  # fmt: skip

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self, *, finished: bool) -> None:
        self._run.finish()


class WandbRun:
    """wandb: a folder `wandb/offline-run-*` in the folder, for `wandb sync`; or a server."""

    def __init__(self, plan: Plan) -> None:
        """Open a run; the output of the job stays its own."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        wandb = imported("wandb")
        self.failures: tuple[type[Exception], ...] = (OSError, wandb.Error)
        self._run = wandb.init(
            project=plan.project, name=plan.name, group=plan.group, config=dict(plan.options),
            dir=str(plan.folder), mode=plan.tracking.mode,
            settings=wandb.Settings(console="off", silent=True),
        )  # fmt: skip

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self, *, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


class MlflowRun:
    """mlflow: an SQLite file `mlflow.db` in the folder, or whatever `tracking_uri` names."""

    def __init__(self, plan: Plan) -> None:
        """Open a run in the experiment named after the project."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        mlflow = imported("mlflow")
        if plan.tracking.tracking_uri is None:
            imported("alembic")
        self.failures: tuple[type[Exception], ...] = (OSError, mlflow.exceptions.MlflowException)
        uri = plan.tracking.tracking_uri or f"sqlite:///{plan.folder.resolve() / 'mlflow.db'}"
        self._entities = mlflow.entities
        # One job at a time: two that make the same file, or the same experiment, would meet.
        with open(plan.folder / "mlflow.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._client = mlflow.MlflowClient(tracking_uri=uri)
            known = self._client.get_experiment_by_name(plan.project)
            experiment = known.experiment_id if known else self._client.create_experiment(plan.project)
            run = self._client.create_run(experiment, run_name=plan.name, tags={"group": plan.group})
        self._id = run.info.run_id
        for key, value in flat(plan.options).items():
            self._client.log_param(self._id, key, value)

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        metrics = [self._entities.Metric(name, value, now, step) for name, value in numbers.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, *, finished: bool) -> None:
        self._client.set_terminated(self._id, status="FINISHED" if finished else "FAILED")


RUNS: dict[str, Callable[[Plan], Run]] = {"trackio": TrackioRun, "wandb": WandbRun, "mlflow": MlflowRun}


# The full mlflow pins other versions than MMIE; its client and a local file need no more than this.
INSTALLED_AS = dict.fromkeys(("mlflow", "alembic"), "mlflow-skinny alembic")


class Tracked:
    """Shows rows of the history to a run, until the tracker fails."""

    def __init__(self, run: Run, name: str) -> None:
        self.run: Run | None = run
        self.name = name

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Log the numbers of a row at its step; what a step does not have is left out."""
        numbers = {
            name: float(value) for name, value in row.items() if name != "step" and isinstance(value, Real)
        }
        self._attempt(lambda run: run.log(numbers, int(row["step"])))

    def close(self, *, finished: bool) -> None:
        """End the run."""
        self._attempt(lambda run: run.close(finished=finished))

    def _attempt(self, action: Callable[[Run], None]) -> None:
        """Hours of training are worth more than their copy: a tracker that fails is left, aloud."""
        if self.run is None:
            return
        try:
            with generators_kept():
                action(self.run)
        except self.run.failures as error:
            self.run = None
            log.warning(
                "%s: tracking stopped, training goes on (%s: %s)", self.name, type(error).__name__, error
            )


@contextmanager
def tracked_run(
    tracking: Mapping[str, Any] | None,
    *,
    experiment: str,
    arm: str,
    seed: int,
    options: Mapping[str, Any],
    folder: str | Path,
) -> Iterator[Tracked | None]:
    """Keep a run open while an arm is fitted.

    Every attempt is a run of its own. One that was taken up again is shown the earlier steps first, so its
    curve is whole; the attempt that was killed keeps its part of it.

    Args:
        tracking: section `tracking` of the configuration; None for no tracking.
        experiment: name of the experiment.
        arm: name of the arm.
        seed: its seed.
        options: resolved options of the arm; one without a block `training` is not tracked.
        folder: where local files go.

    Yields:
        What is to see the rows of the history; None where nothing is tracked.

    Raises:
        InputError: the package is not installed. Where it cannot open a run it raises errors of its own;
            nothing has been trained by then.
    """
    if tracking is None or "training" not in options:
        yield None
        return
    section = Tracking.model_validate(tracking)
    group = f"{experiment}/{arm}"
    name = f"{group}/seed{seed}"
    plan = Plan(
        project=section.project or experiment,
        name=name,
        group=group,
        options={"arm": arm, "seed": seed, **options},
        folder=Path(folder),
        tracking=section,
    )
    plan.folder.mkdir(parents=True, exist_ok=True)
    with generators_kept():
        tracked = Tracked(RUNS[section.backend](plan), name)
    try:
        yield tracked
    except BaseException:
        tracked.close(finished=False)
        raise
    tracked.close(finished=True)


def imported(package: str) -> Any:
    """An optional package; one that is not there is an InputError."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"tracking.backend: the package {package} is not installed ({error}). "
            f"Run `pip install {INSTALLED_AS.get(package, package)}`, or set tracking to null."
        ) from error


@contextmanager
def generators_kept() -> Iterator[None]:
    """Give every random generator back as it was: a tracker may draw names from them."""
    from mmie.training.generators import generator_states, set_generator_states

    states = generator_states()
    try:
        yield
    finally:
        set_generator_states(states)


@contextmanager
def hub_offline() -> Iterator[None]:
    """Let nobody ask the Hugging Face Hub anything, as who is logged in."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by dotted key, where a tracker knows no nesting."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        nested = isinstance(value, Mapping)
        found |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return found
