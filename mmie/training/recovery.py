"""What keeps a run alive or resumable: checkpoints, interruptions, too little memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from mmie.errors import InputError
from mmie.training.checkpoint import (
    Checkpoint,
    Identity,
    foreign_checkpoints,
    newest_checkpoint,
    restore,
    save_checkpoint,
)
from mmie.training.early_stopping import Stopper
from mmie.training.generators import generator_states, set_generator_states
from mmie.training.plan import Step
from mmie.training.updates import Updates
from mmie.training.weighting import WeightedRows

log = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass
class RunState:
    """Everything that changes during a run; at the start of every step it is what a checkpoint holds."""

    updates: Updates
    plan: list[Step]
    retain_weight: float
    """alpha, which a dual objective moves."""
    micro_batch: int | None
    """Items in memory at once, which running out of memory lowers."""
    stopper: Stopper | None = None
    weighted: WeightedRows | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    generators: dict[str, Tensor] = field(default_factory=generator_states)
    """States at the start of the step."""
    between_steps: bool = True
    """False while parameters are being changed: then nothing may be saved."""

    def checkpoint(self) -> Checkpoint:
        """The state at the start of the step that comes next."""
        done = len(self.history)
        tensors = {"retain_weight": torch.tensor(self.retain_weight, dtype=torch.float64)}
        numbers: dict[str, Any] = {"micro_batch": self.micro_batch}
        if self.weighted is not None:
            tensors["remembered"] = self.weighted.state()
        if self.stopper is not None:
            tensors |= {f"best/{name}": value for name, value in self.stopper.best.items()}
            numbers["early_stopping"] = self.stopper.state()
        return Checkpoint(
            step=done,
            parameters={name: value.detach() for name, value in self.updates.parameters.items()},
            optimiser=self.updates.state(),
            generators=self.generators,
            positions=self._positions(done),
            history=self.history,
            callbacks=tensors,
            run=numbers,
        )

    def resume(self, found: Checkpoint) -> None:
        """Continue from a checkpoint.

        Raises:
            InputError: it does not fit this run.
        """
        if found.positions != self._positions(found.step):
            raise InputError("checkpoint: its rows are not those of the plan. Delete the checkpoint folder.")
        restore(found, self.updates.parameters, self.updates)
        self.history = found.history
        self.retain_weight = found.callbacks["retain_weight"].item()
        self.micro_batch = found.run["micro_batch"]
        if self.weighted is not None:
            self.weighted.restore(found.callbacks["remembered"])
        if self.stopper is not None:
            best = {
                name.removeprefix("best/"): value
                for name, value in found.callbacks.items()
                if name.startswith("best/")
            }
            self.stopper.restore(found.run["early_stopping"], best)

    def _positions(self, done: int) -> dict[str, int]:
        rest = self.plan[done:]
        return {
            name: next((getattr(step, name).start for step in rest if getattr(step, name)), -1)
            for name in ("forget", "retain")
        }


class Keeper:
    """Writes and finds the checkpoints of one run; without a directory it does neither."""

    def __init__(self, root: Path | None, identity: Identity, state: RunState) -> None:
        """Look for the newest checkpoint and continue from it."""
        self.root, self.identity, self.state = root, identity, state
        if root is None:
            return
        for folder, keys in foreign_checkpoints(root, identity).items():
            log.warning("%s: checkpoint of another run, not used; these differ: %s", folder, ", ".join(keys))
        found = newest_checkpoint(root, identity)
        if found is not None:
            state.resume(found)
            log.info("resumed after step %d", found.step)

    def save(self) -> Path | None:
        """Write a checkpoint of the state."""
        if self.root is None:
            return None
        best = self.state.stopper.best_step if self.state.stopper else None
        return save_checkpoint(self.root, self.identity, self.state.checkpoint(), best=best)

    @contextmanager
    def rescue(self) -> Iterator[None]:
        """On any way out but the regular one, leave a checkpoint of the last whole step, and go on out."""
        try:
            yield
        except BaseException as error:
            if self.state.between_steps and self.state.history:
                folder = self.save()
                if folder is not None:
                    log.error("stopped by %s; last good checkpoint: %s", type(error).__name__, folder)
            raise


def within_memory(state: RunState, largest: int, attempt: Callable[[], Result]) -> Result:
    """Compute gradients; where memory runs out, again with half the micro-batch and twice as many parts.

    Args:
        state: its micro-batch is lowered, for good.
        largest: items of the step's largest batch.
        attempt: starts from cleared gradients whenever it is called.

    Raises:
        InputError: not even one item at a time fits.
    """
    while True:
        try:
            return attempt()
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
        # Outside the handler: the traceback of the error would keep the tensors of the attempt alive.
        now = min(state.micro_batch or largest, largest)
        if now == 1:
            raise InputError(
                "training: one item at a time does not fit into memory. Use a smaller model or shorter rows."
            )
        state.micro_batch = now // 2
        state.updates.clear()
        set_generator_states(state.generators)
        log.warning("out of memory with %d items at once: now %d, gradients add up", now, now // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
