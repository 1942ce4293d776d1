"""The one training loop, from the first step to the last or to the best."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn
from tqdm import tqdm

from mmie.training.batches import CyclicBatches
from mmie.training.cached_reference import CachedReference, cached_reference
from mmie.training.checkpoint import Identity
from mmie.training.early_stopping import Stopper, joint_criterion
from mmie.training.generators import generator_states
from mmie.training.guards import only_these_move, only_trainable, seeded
from mmie.training.plan import Step, plan_steps
from mmie.training.recovery import Keeper, RunState, within_memory
from mmie.training.sets import TrainingSets
from mmie.training.settings import TrainingSettings
from mmie.training.terms import Auxiliary, ForgetTerm, RetainTerm, Term, Value, accumulate
from mmie.training.updates import Updates
from mmie.training.weighting import WeightedRows, begins_stage

__all__ = ["HISTORY", "TrainingSets", "train"]

HISTORY = [
    "step", "forget_loss", "retain_loss", "forget_nll", "lr", "grad_norm", "forget_items",
    "retain_items", "tokens",
]  # fmt: skip
"""Columns of the history: losses before weighting, forget_nll in mean nats an item, tokens of both
batches' answers. A column without any value is left out; what only some runs have follows."""

Draw = Callable[[int, Step], list[int]]
"""(number of the step, its plan) -> row numbers."""

Observer = Callable[[Mapping[str, Any]], None]
"""Is shown the row of every step, once; it changes nothing."""


def unobserved(row: Mapping[str, Any]) -> None:
    """The observer of a run that nobody watches."""


def train(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    sets: TrainingSets,
    settings: TrainingSettings,
    *,
    seed: int,
    checkpoints: Path | None = None,
    identity: Identity | None = None,
    own_terms: Mapping[str, Term] | None = None,
    auxiliary: Auxiliary | None = None,
    observe: Observer = unobserved,
) -> pd.DataFrame:
    """Train the parameters of an intervention that is attached to the model.

    The reference of the retain term is the same model with the intervention switched off; that of the
    forget term was stored beforehand. A run that was killed and started again with the same arguments
    ends with the same bytes.

    Args:
        model: with the intervention attached; it stays in eval mode throughout.
        parameters: all that may change, by name.
        sets: forget and retain examples.
        settings: constants of the run.
        seed: of the order of the data.
        checkpoints: where resumable state goes; None for none.
        identity: everything that shapes the run; a checkpoint of another one is not used.
        own_terms: `forget` or `retain` terms in place of those of the catalogue.
        auxiliary: a third term with rows of its own, in every step.
        observe: sees each row of the history when it is made; a resumed run shows it the earlier ones first.

    Returns:
        One row a step, columns `HISTORY` and those of the options in use.

    Raises:
        TrainingDiverged: a loss or gradient is not finite; names step and items.
        RuntimeError: an intended parameter did not move, or another one did.
    """
    plan = plan_steps(settings, len(sets.forget))
    updates = Updates(parameters, settings, plan, sets.retain_limit)
    stopper = Stopper(settings.early_stopping) if settings.early_stopping else None
    weighted = weighted_rows(sets, settings, seed)
    state = RunState(updates, plan, settings.retain_weight, settings.micro_batch, stopper, weighted)
    draws = samplers(sets, settings, weighted, len(plan), seed)
    terms: dict[str, Term] = {
        "forget": ForgetTerm(model, sets, settings),
        "retain": RetainTerm(model, sets.retain, settings, _cache(model, sets, settings, plan, draws)),
        **(own_terms or {}),
    }
    with only_trainable(model, parameters), only_these_move(model, parameters), seeded(seed):
        state.generators = generator_states()
        keeper = Keeper(checkpoints, identity or {}, state)
        for row in state.history:
            observe(row)
        with keeper.rescue(), progress(len(plan), len(state.history)) as bar:
            while len(state.history) < len(plan) and not (stopper and stopper.stop):
                began = time.monotonic()
                row = take_step(model, terms, draws, state, settings, auxiliary)
                done = len(state.history) + 1
                if stopper and stopper.due(done):
                    assert sets.held_out is not None
                    size = state.micro_batch or settings.forget_batch
                    row["held_out"] = joint_criterion(model, sets.held_out, batch_size=size)
                    stopper.record(done, row["held_out"], parameters)
                state.history.append(row)
                state.generators, state.between_steps = generator_states(), True
                if done % settings.checkpoint_every == 0:
                    keeper.save()
                observe(row)
                show(bar, row, time.monotonic() - began)
        if stopper:
            stopper.choose(parameters)
    extra = sorted({name for row in state.history for name in row} - set(HISTORY))
    history = pd.DataFrame(state.history, columns=[*HISTORY, *extra])
    if stopper:
        history["chosen"] = history["step"] + 1 == stopper.best_step
    return history.dropna(axis=1, how="all")


def _cache(
    model: nn.Module,
    sets: TrainingSets,
    settings: TrainingSettings,
    plan: Sequence[Step],
    draws: Mapping[str, Draw],
) -> CachedReference | None:
    """The cached reference of all retain rows that the run will draw, where the settings ask for one."""
    if settings.reference != "cached":
        return None
    needed = {row for number, step in enumerate(plan) for row in draws["retain"](number, step)}
    return cached_reference(model, sets.retain, sorted(needed), settings.reference_top)


def take_step(
    model: nn.Module,
    terms: Mapping[str, Term],
    draws: Mapping[str, Draw],
    state: RunState,
    settings: TrainingSettings,
    auxiliary: Auxiliary | None = None,
) -> dict[str, Any]:
    """One optimiser step (one of each optimiser, if there are two); returns its row of the history."""
    number = len(state.history)
    step, updates, where = state.plan[number], state.updates, f"step {number}"
    weights = {"forget": settings.forget_weight, "retain": state.retain_weight}
    row: dict[str, Any] = {"step": number, **dict.fromkeys(HISTORY[1:6])}
    row |= {"forget_items": 0, "retain_items": 0, "tokens": 0}
    columns: dict[str, float] = {}
    if state.weighted is not None and step.forget and settings.reweighting:
        row["refreshed"] = state.weighted.refresh(model, number)
    if settings.curriculum and settings.curriculum.moments == "reset":
        row["moments_reset"] = begins_stage(number, len(state.plan))
        if row["moments_reset"]:
            updates.reset()
    for optimiser, names in updates.groups(step):
        rows = {name: draws[name](number, step) for name in names}

        def gradients(rows: Mapping[str, list[int]] = rows) -> dict[str, Value]:
            updates.clear()
            size = state.micro_batch
            if auxiliary is not None:
                columns.update(auxiliary.accumulate(number, len(state.plan), size=size, where=where))
            return {
                name: accumulate(terms[name], own, weight=weights[name], size=size, where=where)
                for name, own in rows.items()
            }

        values = within_memory(state, max(map(len, rows.values())), gradients)
        row["grad_norm"] = updates.clip(where)
        state.between_steps = False
        row |= updates.apply(optimiser, number)
        for name, value in values.items():
            row |= {f"{name}_loss": value.loss, f"{name}_items": value.items}
            row["tokens"] += value.tokens
            row["forget_nll"] = value.nll if name == "forget" else row["forget_nll"]
    if settings.objective == "pdu":
        row["retain_weight"] = state.retain_weight
        state.retain_weight = updates.dual_weight(state.retain_weight, row["retain_loss"], number)
    row |= columns
    if state.micro_batch != settings.micro_batch:
        row["micro_batch"] = state.micro_batch
    return row


def weighted_rows(sets: TrainingSets, settings: TrainingSettings, seed: int) -> WeightedRows | None:
    """The weighted sampler of forget rows, where the settings ask for one."""
    if settings.curriculum is None and settings.reweighting is None:
        return None
    return WeightedRows(
        sets.forget,
        sets.reference_nll,
        curriculum=settings.curriculum,
        reweighting=settings.reweighting,
        language_weights=settings.language_weights,
        seed=seed,
        batch_size=settings.micro_batch or settings.forget_batch,
    )


def samplers(
    sets: TrainingSets, settings: TrainingSettings, weighted: WeightedRows | None, total: int, seed: int
) -> dict[str, Draw]:
    """How each term gets its rows: from whole shuffled passes, or forget rows by weight."""
    weights = settings.language_weights
    forget, retain = (
        CyclicBatches(examples.languages, size, seed=seed, weights=weights)
        for examples, size in (
            (sets.forget, settings.forget_batch),
            (sets.retain, settings.retain_batch),
        )
    )
    draws: dict[str, Draw] = {
        "forget": lambda number, step: forget.rows(step.forget),
        "retain": lambda number, step: retain.rows(step.retain),
    }
    if weighted is not None:
        draws["forget"] = lambda number, step: weighted.draw(len(step.forget), number, total)
    return draws


def progress(total: int, done: int) -> tqdm[Any]:
    """A progress bar; in a log, which no one watches, a line every half minute."""
    interval = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(total=total, initial=done, desc="training", unit="step", mininterval=interval)


def show(bar: tqdm[Any], row: Mapping[str, Any], seconds: float) -> None:
    """Move the bar on: losses, rate and answer tokens a second."""
    shown = {name: row[name] for name in ("forget_loss", "retain_loss", "lr") if row[name] is not None}
    numbers = {name: f"{value:.3g}" for name, value in shown.items()}
    bar.set_postfix(numbers | {"tokens/s": f"{row['tokens'] / seconds:.0f}"}, refresh=False)
    bar.update()
