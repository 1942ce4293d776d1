"""Which rows a step takes and at which rate, as functions of the step alone: the base of exact resume."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmie.errors import InputError
from mmie.training.settings import TrainingSettings


@dataclass(frozen=True)
class Step:
    """Draws of one optimiser step, as positions in the endless sequence of each sampler."""

    forget: range
    """Empty where the step has no forget term."""
    retain: range
    """Empty where the step has no retain term."""


def plan_steps(settings: TrainingSettings, forget_rows: int) -> list[Step]:
    """Lay out all steps of a run.

    Args:
        settings: of the run.
        forget_rows: rows in an epoch.

    Raises:
        InputError: fewer than 2 steps come out.
    """
    size = settings.forget_batch
    if settings.steps is not None:
        forget = [range(number * size, (number + 1) * size) for number in range(settings.steps)]
    else:
        forget = epoch_windows(forget_rows, size, settings.epochs or 1, settings.tail or "flush")
    if len(forget) < 2:
        raise InputError(
            f"training: {settings.epochs} epochs of {forget_rows} forget rows give {len(forget)} optimiser "
            "steps, at least 2 are needed. Raise epochs, or lower forget_batch."
        )
    size = settings.retain_batch
    retain = [range(number * size, (number + 1) * size) for number in range(len(forget))]
    none = range(0)
    if settings.forget_weight == 0:
        forget = [none] * len(retain)
    if settings.retain_weight == 0:
        retain = [none] * len(forget)
    if settings.schedule == "joint":
        return [Step(*rows) for rows in zip(forget, retain, strict=True)]
    if settings.steps is None:
        # An epoch is an epoch: every forget window keeps its place, a retain step follows each.
        pairs = zip(forget, retain, strict=True)
        return [step for one, two in pairs for step in (Step(one, none), Step(none, two))]
    return [
        Step(forget[number // 2], none) if number % 2 == 0 else Step(none, retain[number // 2])
        for number in range(settings.steps)
    ]


def epoch_windows(rows: int, size: int, epochs: int, tail: str) -> list[range]:
    """Cut epochs into optimiser steps of `size` rows.

    Args:
        rows: rows (or micro-batches, or whatever is accumulated) of an epoch.
        size: how many a step takes.
        epochs: how many epochs.
        tail: what becomes of the rest of an epoch: `flush` takes a short step, epochs * ceil(rows/size)
            steps in all; `carry` goes on into the next epoch, ceil(epochs * rows/size); `drop` leaves it
            out, epochs * floor(rows/size).
    """
    if tail == "carry":
        total = epochs * rows
        return [range(start, min(start + size, total)) for start in range(0, total, size)]
    return [
        range(epoch * rows + start, epoch * rows + min(start + size, rows))
        for epoch in range(epochs)
        for start in range(0, rows, size)
        if tail == "flush" or start + size <= rows
    ]


def learning_rate(step: int, total: int, peak: float, warmup_share: float) -> float:
    """Rate of optimiser step `step` of `total` (from 0): linear rise, then linear fall; never exactly 0."""
    warmup = warmup_steps(total, warmup_share)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * (total - step) / (total - warmup)


def warmup_steps(total: int, share: float) -> int:
    """Steps in which the rate rises: the whole part of share * total, at most total - 1."""
    # A share such as 0.29 of 100 is 28.999... in binary and means 29.
    return min(math.floor(share * total + 1e-9), total - 1)
