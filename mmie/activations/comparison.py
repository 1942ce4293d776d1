"""Did choosing layers matter? The effect of ablation at selected, random, worst and middle layers.

Measured on DEV, outside of the choice: nothing here feeds back into which layers are selected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mmie.activations.causal import CausalOptions, ablations
from mmie.activations.moments import label_languages
from mmie.errors import InputError
from mmie.io import seed_from

Items = NDArray[np.float64]
"""One number an item, [items]."""


def choose_items(rows: pd.DataFrame, forget: Sequence[str], count: int, seed: int = 0) -> pd.DataFrame:
    """Direct DEV questions in trained wordings, one a fact, forget languages in turn.

    Questions of one fact are no independent items, in whatever language or wording they are asked.
    """
    chosen = rows[(rows["split"] == "dev") & (rows["kind"] == "direct") & rows["language"].isin(forget)]
    chosen = chosen[chosen["template_split"] == "trained"]
    rng = np.random.default_rng(seed_from("causal items", seed))
    facts = rng.permutation(sorted(chosen["fact_id"].unique()))[:count]
    parts = []
    for place, fact in enumerate(facts):
        wanted = chosen[(chosen["fact_id"] == fact)]
        in_turn = wanted[wanted["language"] == forget[place % len(forget)]]
        options = in_turn if len(in_turn) else wanted
        parts.append(options.sort_values("example_id").iloc[[int(rng.integers(len(options)))]])
    if not parts:
        raise InputError("causal comparison: no direct DEV question of a forget language. Check the splits.")
    return pd.concat(parts, ignore_index=True)


def language_direction(
    activations: Path, layer: int, forget: Sequence[str], retain: Sequence[str]
) -> tuple[Tensor, float]:
    """Unit vector from the retain to the forget languages' mean, and the retain languages' component.

    Languages weigh equally. FIT rows.
    """
    languages: dict[str, Sequence[str]] = {language: [language] for language in (*forget, *retain)}
    means = label_languages(activations, layer, languages).moments().means
    other = means[len(forget) :].mean(0)
    direction = functional.normalize(means[: len(forget)].mean(0) - other, dim=0)
    return direction.float(), float(other @ direction)


def layer_effects(
    model: nn.Module,
    tokenizer: Any,
    rows: pd.DataFrame,
    activations: Path,
    layers: Sequence[int],
    *,
    forget: Sequence[str],
    retain: Sequence[str],
    options: CausalOptions,
) -> dict[int, tuple[Items, list[Items], float]]:
    """Ablate the language direction of one layer at a time.

    Returns:
        By layer: rise of each answer's NLL (nats) by the ablation; the same for every control, which moves
        each position as far in a random direction; mean length of the change.
    """
    found = {}
    for layer in sorted(set(layers)):
        direction, mean = language_direction(activations, layer, forget, retain)
        edits, size = ablations(model, tokenizer, rows, layer, direction, mean, options)
        effects = [(name, effect.numpy()) for name, _, effect in edits]
        found[layer] = (
            next(effect for name, effect in effects if name == "ablation"),
            [effect for name, effect in effects if name == "control"],
            size,
        )
    return found


def compare_choices(
    effects: Mapping[int, tuple[Items, list[Items], float]],
    choices: Mapping[str, Sequence[Sequence[int]]],
    options: CausalOptions,
) -> dict[str, Any]:
    """Selected layers against every other way to choose as many.

    The effect of a layer is its ablation's rise of the NLL minus the mean of its controls', per item; of a
    choice, the mean over its layers (one at a time) and draws. Differences are paired by item.

    Args:
        effects: of `layer_effects`.
        choices: `selected` and others; each a list of draws, each draw a list of layers.
        options: resamples and seed of the intervals.

    Returns:
        `layers` (effect by layer, with its interval, the largest control and whether it is beyond the 95th
        percentile of its controls) and `choices` (layers, effect, interval; but for `selected` also
        `difference`, selected minus this choice, its interval and `selected_is_stronger`: the interval is
        above 0). A choice of the selected layers themselves has no difference.
    """
    rng = np.random.default_rng(seed_from("causal comparison", options.seed))
    count = len(next(iter(effects.values()))[0])
    draws = rng.integers(count, size=(options.resamples, count))
    specific = {layer: raw - np.mean(controls, axis=0) for layer, (raw, controls, _) in effects.items()}
    values = {
        name: np.mean([specific[layer] for draw in sets for layer in draw], axis=0)
        for name, sets in choices.items()
    }
    selected = sorted(choices["selected"][0])
    report: dict[str, Any] = {}
    for name, sets in choices.items():
        report[name] = {"layers": [sorted(draw) for draw in sets], **_interval(values[name], draws)}
        if name == "selected":
            continue
        if all(sorted(draw) == selected for draw in sets):
            report[name] |= {"difference": None, "selected_is_stronger": None}
        else:
            difference = _interval(values["selected"] - values[name], draws)
            report[name] |= {"difference": difference, "selected_is_stronger": difference["low"] > 0}
    by_layer = {}
    for layer, (raw, controls, size) in effects.items():
        means = [float(control.mean()) for control in controls]
        by_layer[str(layer)] = {
            **_interval(specific[layer], draws),
            "ablation": float(raw.mean()),
            "largest_control": max(means),
            "beyond_controls": float(raw.mean()) > float(np.quantile(means, 0.95)),
            "size": size,
        }
    return {"items": count, "layers": by_layer, "choices": report}


def _interval(values: Items, draws: NDArray[np.int64]) -> dict[str, float]:
    low, high = np.quantile(values[draws].mean(1), [0.025, 0.975])
    return {"effect": float(values.mean()), "low": float(low), "high": float(high)}
