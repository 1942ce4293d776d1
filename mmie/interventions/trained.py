"""What interventions that are trained share: from FIT rows and settings to a run of the loop."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

import pandas as pd
from torch import nn

from mmie.errors import InputError
from mmie.interventions.interface import FitData
from mmie.io import stable_hash
from mmie.training.batches import Examples
from mmie.training.forward import model_limit
from mmie.training.loop import TrainingSets, train
from mmie.training.reference import reference_sums
from mmie.training.settings import TrainingSettings

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
    limit = model_limit(model)
    forget = Examples.from_rows(data.forget, data.tokenizer, longest=limit, name="forget")
    retain = Examples.from_rows(data.retain, data.tokenizer, longest=limit, name="retain")
    return TrainingSets(forget, reference_sums(data.reference, forget), retain)


def run_training(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    sets: TrainingSets,
    settings: TrainingSettings,
    data: FitData,
    *,
    seed: int,
    recipe: Mapping[str, Any],
) -> pd.DataFrame:
    """Train attached parameters; see `mmie.training.loop.train`.

    Args:
        model: with the intervention attached.
        parameters: the intervention's own, by name.
        sets: of `training_sets`.
        settings: of the run.
        data: for the checkpoint directory.
        seed: of the order of the data.
        recipe: kind, options and base hash: with data and versions, the identity of the run.
    """
    identity = stable_hash(
        {
            "recipe": recipe,
            "seed": seed,
            "rows": [_fingerprint(sets.forget), _fingerprint(sets.retain), list(sets.reference_nll)],
            "parameters": {name: list(value.shape) for name, value in parameters.items()},
            "versions": {name: metadata.version(name) for name in _SHAPING_PACKAGES},
        }
    )
    return train(
        model,
        parameters,
        sets,
        settings,
        seed=seed,
        checkpoints=data.checkpoints,
        identity=identity,
    )


def _fingerprint(examples: Examples) -> list[Any]:
    return [
        examples.example_ids,
        examples.languages,
        [[item.answer_start, *item.ids] for item in examples.encoded],
    ]
