"""What interventions that are trained share: from FIT rows and settings to a run of the loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from typing import Any

import pandas as pd
from torch import nn

from mmie.errors import InputError
from mmie.interventions.interface import FitData
from mmie.io import stable_hash
from mmie.provenance import code_hash
from mmie.training.batches import Examples
from mmie.training.forward import model_limit
from mmie.training.loop import train, unobserved
from mmie.training.preparation import hold_out, mean_answer_nll, with_alternates
from mmie.training.reference import reference_sums
from mmie.training.sets import TrainingSets
from mmie.training.settings import TrainingSettings
from mmie.training.terms import Auxiliary, Term

_SHAPING_PACKAGES = ("numpy", "peft", "torch", "transformers")


def read_settings(training: TrainingSettings | Mapping[str, Any]) -> TrainingSettings:
    """Accept settings, or the `training` block of an arm."""
    if isinstance(training, TrainingSettings):
        return training
    return TrainingSettings.from_options(dict(training))


def training_sets(model: nn.Module, data: FitData) -> TrainingSets:
    """Encode the FIT rows and look up their stored reference log-likelihoods.

    Raises:
        InputError: a set or the tokenizer is missing or empty; a row has no stored reference.
    """
    if data.forget is None or data.retain is None or data.tokenizer is None:
        raise InputError("training needs a tokenizer, forget rows and retain rows. Give all three.")
    forget = encoded(model, data.forget, data.tokenizer, "forget")
    retain = encoded(model, data.retain, data.tokenizer, "retain")
    return TrainingSets(forget, reference_sums(data.reference, forget), retain)


def sets_without_reference(model: nn.Module, data: FitData, kind: str) -> TrainingSets:
    """Encode the FIT rows for an objective that reads no stored likelihoods.

    Raises:
        InputError: a set or the tokenizer is missing or empty.
    """
    if data.forget is None or data.retain is None or data.tokenizer is None:
        raise InputError(f"arm of kind {kind!r}: it needs a tokenizer, forget rows and retain rows.")
    forget = encoded(model, data.forget, data.tokenizer, "forget")
    return TrainingSets(forget, [0.0] * len(forget), encoded(model, data.retain, data.tokenizer, "retain"))


def encoded(model: nn.Module, rows: pd.DataFrame, tokenizer: Any, name: str) -> Examples:
    """Encode rows; those that the model has no positions for are an InputError."""
    return Examples.from_rows(rows, tokenizer, longest=model_limit(model), name=name)


def run_training(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    sets: TrainingSets,
    settings: TrainingSettings,
    data: FitData,
    *,
    seed: int,
    recipe: Mapping[str, Any],
    own_terms: Mapping[str, Term] | None = None,
    auxiliary: Auxiliary | None = None,
) -> pd.DataFrame:
    """Train attached parameters; see `mmie.training.loop.train`.

    Args:
        model: with the intervention attached.
        parameters: the intervention's own, by name.
        sets: of `training_sets`.
        settings: of the run.
        data: for the checkpoint directory and who watches; neither is part of the identity.
        seed: of the order of the data.
        recipe: kind, options and base hash: with data and versions, the identity of the run.
        own_terms: terms of the kind in place of those of the catalogue.
        auxiliary: a third term; one optimiser only, a second one would count it twice.
    """
    if auxiliary is not None and settings.optimisers == "dual":
        raise InputError("training.optimisers: dual takes no third term. Set it to one.")
    sets = prepared(sets, model, data, settings, seed)
    return train(
        model,
        parameters,
        sets,
        settings,
        seed=seed,
        checkpoints=data.checkpoints,
        identity={
            "recipe": recipe,
            "training": settings.as_options(),
            "seed": seed,
            "data": _data_hashes(sets),
            "code": code_hash(),
            "parameters": {name: list(value.shape) for name, value in parameters.items()},
            "versions": {name: metadata.version(name) for name in _SHAPING_PACKAGES},
        },
        own_terms=own_terms,
        auxiliary=auxiliary,
        observe=data.observe or unobserved,
    )


def prepared(
    sets: TrainingSets, model: nn.Module, data: FitData, settings: TrainingSettings, seed: int
) -> TrainingSets:
    """Add what the objective and early stopping need: other answers, a limit, held-out groups."""
    assert data.forget is not None and data.retain is not None
    if settings.forget_term.alternates:
        sets = with_alternates(sets, model, data.tokenizer, data.forget, settings.objective, seed)
    if settings.objective == "pdu" and settings.retain_objective == "nll":
        sums = reference_sums(data.reference, sets.retain)
        sets = replace(sets, retain_limit=mean_answer_nll(sums, sets.retain))
    if settings.early_stopping:
        sets = hold_out(sets, data.forget, data.retain, settings, seed)
    return sets


def _data_hashes(sets: TrainingSets) -> dict[str, str]:
    """A hash for each part of the data, so that a refused checkpoint can say which one changed."""
    parts: dict[str, Any] = {
        "forget": _fingerprint(sets.forget),
        "retain": _fingerprint(sets.retain),
        "reference": list(sets.reference_nll),
    }
    if sets.alternates is not None:
        parts["alternates"] = [_fingerprint(sets.alternates), list(sets.alternate_nll or [])]
    if sets.held_out is not None:
        parts["held_out"] = [_fingerprint(sets.held_out.forget), _fingerprint(sets.held_out.retain)]
    return {name: stable_hash(content) for name, content in parts.items()}


def _fingerprint(examples: Examples) -> list[Any]:
    return [
        examples.example_ids,
        examples.languages,
        [[item.answer_start, *item.ids] for item in examples.encoded],
    ]
