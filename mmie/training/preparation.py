"""From rows to what a run reads: held-out groups, other answers, and the limits of constraints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from mmie.errors import InputError
from mmie.io import seed_from
from mmie.models.hooks import disabled
from mmie.objectives.alternates import plausible_answers, refusals
from mmie.training.batches import Examples
from mmie.training.forward import model_limit
from mmie.training.reference import answer_sums
from mmie.training.sets import HeldOut, TrainingSets
from mmie.training.settings import TrainingSettings


def with_alternates(
    sets: TrainingSets, model: nn.Module, tokenizer: Any, rows: pd.DataFrame, objective: str, seed: int
) -> TrainingSets:
    """Give every forget row another answer and its NLL under the base.

    Args:
        sets: of the same forget rows, in the same order.
        model: the intervention, if attached, is switched off for the NLL.
        tokenizer: of the model.
        rows: the forget rows.
        objective: `altpo` draws answers to other prompts, every other one refusals.
        seed: of the run.
    """
    drawn = plausible_answers(rows, seed) if objective == "altpo" else refusals(rows, seed)
    changed = rows.assign(answer=drawn)
    examples = Examples.from_rows(changed, tokenizer, longest=model_limit(model), name="other answers")
    with disabled(model):
        sums = answer_sums(model, examples)
    return replace(sets, alternates=examples, alternate_nll=sums)


def hold_out(
    sets: TrainingSets, forget: pd.DataFrame, retain: pd.DataFrame, settings: TrainingSettings, seed: int
) -> TrainingSets:
    """Set whole groups aside for early stopping; a group leaves both sets and all languages.

    Args:
        sets: of these rows.
        forget: the forget rows, with a column `group`.
        retain: the retain rows, with a column `group`.
        settings: with early stopping on.
        seed: of the run.

    Raises:
        InputError: too few groups to hold some out and keep some.
    """
    assert settings.early_stopping is not None
    groups = sorted(set(forget["group"]) | set(retain["group"]))
    count = max(1, round(settings.early_stopping.held_out_share * len(groups)))
    order = np.random.default_rng(seed_from("held out", seed)).permutation(len(groups))
    chosen = {groups[index] for index in order[:count]}
    measured, trained = [], []
    for rows in (forget, retain):
        inside = rows["group"].isin(chosen).to_numpy()
        measured.append(np.flatnonzero(inside).tolist())
        trained.append(np.flatnonzero(~inside).tolist())
    if not all((*measured, *trained)):
        raise InputError(
            f"training.early_stopping: {count} of {len(groups)} groups held out leave a set empty. "
            "Give more rows, or another held_out_share."
        )
    held_out = HeldOut(
        sets.forget.take(measured[0]), _pick(sets.reference_nll, measured[0]), sets.retain.take(measured[1])
    )
    kept = replace(
        sets,
        forget=sets.forget.take(trained[0]),
        reference_nll=_pick(sets.reference_nll, trained[0]),
        retain=sets.retain.take(trained[1]),
        held_out=held_out,
    )
    if sets.alternates is None or sets.alternate_nll is None:
        return kept
    return replace(
        kept,
        alternates=sets.alternates.take(trained[0]),
        alternate_nll=_pick(sets.alternate_nll, trained[0]),
    )


def mean_answer_nll(sums: Sequence[float], examples: Examples) -> float:
    """Mean over items of L / T, nats a token."""
    return float(np.mean(np.array(sums) / np.array(examples.answer_lengths)))


def _pick(values: Sequence[float], indices: Sequence[int]) -> list[float]:
    return [values[index] for index in indices]
