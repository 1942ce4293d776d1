"""Whether picked latents do what they were picked for: clamp them on DEV and compare with random ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from mmie.errors import InputError
from mmie.models.hooks import edit
from mmie.sae.autoencoder import SparseAutoencoder, at_block
from mmie.sae.clamp import clamp_of
from mmie.sae.pickers import random_matched
from mmie.training.batches import Examples
from mmie.training.reference import answer_sums

if TYPE_CHECKING:
    import pandas as pd

RANDOM_SETS = 20
PERCENTILE = 95.0


def validate_picks(
    model: nn.Module,
    tokenizer: Any,
    rows: Mapping[str, pd.DataFrame],
    sae: SparseAutoencoder,
    picks: Mapping[str, Sequence[int]],
    table: pd.DataFrame,
    *,
    layer: int,
    forget: Sequence[str],
    retain: Sequence[str],
    residual_norm: float,
    largest_norm: float = math.inf,
    random_sets: int = RANDOM_SETS,
) -> dict[str, dict[str, Any]]:
    """Effect of clamping each picker's latents, as the arm does at strength 1, beside matched random sets.

    The effect is the mean rise of the answers' loss, nats per token; languages weigh equally. A picker is
    `specific` when its effect on forget items exceeds the 95th percentile of the random sets' while its
    effect on retain items is no larger than their largest.

    Args:
        model: the base model.
        tokenizer: its tokenizer.
        rows: DEV items (`example_id`, `language`, `prompt`, `answer`) by language.
        sae: the layer's autoencoder, on any device.
        picks: latents by picker.
        table: `score_table` of the layer, which matching reads.
        layer: the block.
        forget: written forms of the forget language.
        retain: languages that must not be touched.
        residual_norm: n_l of the layer, see `mmie.activations.norms`.
        largest_norm: positions with a larger norm are left alone.
        random_sets: how many controls.

    Returns:
        By picker: `forget`, `retain` (the picks' effects), `random_forget`, `random_retain` (lists),
        `forget_limit` (the percentile), `specific`.

    Raises:
        InputError: fewer than 20 random sets, or a language without DEV items.
    """
    sae = at_block(sae, model, layer)
    if random_sets < RANDOM_SETS:
        raise InputError(f"validation: {random_sets} random sets, fewer than {RANDOM_SETS}. Draw more.")
    examples = {language: _examples(rows, language, tokenizer) for language in [*forget, *retain]}
    base = {language: _loss(model, some) for language, some in examples.items()}

    def effects(latents: Sequence[int]) -> tuple[float, float]:
        clamp = clamp_of(sae, latents, residual_norm, largest_norm, tokenizer.all_special_ids)
        with edit(model, {layer: clamp}, on_pass=clamp.begin):
            rise = {language: _loss(model, some) - base[language] for language, some in examples.items()}
        sides = [float(np.mean([rise[language] for language in side])) for side in (forget, retain)]
        return sides[0], sides[1]

    found: dict[str, dict[str, Any]] = {}
    for picker, latents in picks.items():
        on_forget, on_retain = effects(latents)
        controls = [
            effects(random_matched(table, latents, layer=layer, seed=seed)) for seed in range(random_sets)
        ]
        found[picker] = _verdict(on_forget, on_retain, controls)
    return found


def _verdict(on_forget: float, on_retain: float, controls: Sequence[tuple[float, float]]) -> dict[str, Any]:
    random_forget, random_retain = (list(side) for side in zip(*controls, strict=True))
    limit = float(np.percentile(random_forget, PERCENTILE))
    return {
        "forget": on_forget,
        "retain": on_retain,
        "random_forget": random_forget,
        "random_retain": random_retain,
        "forget_limit": limit,
        "specific": on_forget > limit and on_retain <= max(random_retain),
    }


def _examples(rows: Mapping[str, pd.DataFrame], language: str, tokenizer: Any) -> Examples:
    if language not in rows or not len(rows[language]):
        raise InputError(f"validation: no DEV items in {language}. Raise data.dev_share.")
    return Examples.from_rows(rows[language], tokenizer, longest=None, name="validation")


def _loss(model: nn.Module, examples: Examples) -> float:
    """Mean answer loss, nats per token."""
    return float(np.sum(answer_sums(model, examples)) / np.sum(examples.answer_lengths))
