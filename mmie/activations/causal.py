"""Does a layer matter for the answers? Directional ablation.

Overwriting every position at every decoding step would measure damage, so the effect stands beside edits
of the same size in random directions. Patching of matched pairs is in `patching`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmie.errors import InputError
from mmie.io import seed_from
from mmie.models.blocks import block_device, find_blocks
from mmie.models.hooks import Edit, edit
from mmie.models.prompts import Encoded, collate, encode_all, padding_id
from mmie.training.forward import batch_nll

FEWEST_ITEMS = 50

Edited = tuple[str, int, Tensor]
"""What was done ("ablation" or "control"), its draw, and its effect on each item [items]."""


@dataclass(frozen=True)
class CausalOptions:
    """How effects are measured."""

    controls: int = 20
    """Random directions that an effect is compared with."""
    minimum_items: int = FEWEST_ITEMS
    """Fewer items are an error: a handful of answers decides nothing."""
    resamples: int = 1000
    """Bootstrap resamples of items behind the interval."""
    seed: int = 0


def ablation_effect(
    model: nn.Module,
    tokenizer: Any,
    rows: pd.DataFrame,
    layer: int,
    direction: Tensor,
    mean: float,
    options: CausalOptions = CausalOptions(),
) -> pd.DataFrame:
    """Rise of the answers' NLL when the component along a direction is set to `mean`, with controls.

    A control moves every position as far as the ablation moves it on average, h' = h - s u with u a
    random unit vector: what any push of that size does.

    Args:
        model: the base model.
        tokenizer: its tokenizer.
        rows: prompts and answers, DEV.
        layer: whose output is edited, at kept positions.
        direction: unit vector, [width].
        mean: component that a comparison set has.
        options: sizes and seed.

    Returns:
        One row an edit: `edit` ("ablation" or "control"), `draw`, `effect` (mean rise, nats an answer),
        `low` and `high` (95 % interval over items), `size` (mean norm of the change), `items`.

    Raises:
        InputError: fewer items than `options.minimum_items`.

    Source: Arditi et al. 2024 (arXiv 2406.11717).
    """
    found, size = ablations(model, tokenizer, rows, layer, direction, mean, options)
    return _table(found, size, layer, options)


def ablations(
    model: nn.Module,
    tokenizer: Any,
    rows: pd.DataFrame,
    layer: int,
    direction: Tensor,
    mean: float,
    options: CausalOptions = CausalOptions(),
) -> tuple[list[Edited], float]:
    """What `ablation_effect` summarises: every edit with the rise of each item's NLL, and the edits' size."""
    encoded = encode_items(tokenizer, rows, options)
    base = answer_nll(model, tokenizer, encoded)
    v = direction.to(block_device(find_blocks(model)[layer])).float()
    sizes: list[Tensor] = []

    def ablation(hidden: Tensor, keep: Tensor) -> Tensor:
        change = (hidden.float() @ v - mean).unsqueeze(-1) * v
        sizes.append(change.norm(dim=-1)[keep])
        return hidden - change.to(hidden.dtype)

    found = [("ablation", 0, _effect(model, tokenizer, encoded, {layer: ablation}, base))]
    size = float(torch.cat(sizes).mean())
    for draw in range(options.controls):
        step = size * random_unit(len(v), "ablation control", options.seed, layer, draw)
        push = _pushing(step)
        found.append(("control", draw, _effect(model, tokenizer, encoded, {layer: push}, base)))
    return found, size


def beyond_chance(table: pd.DataFrame) -> float:
    """Effect of an ablation or a patch beyond the 95th percentile of its controls, in the table's unit."""
    real = table.loc[table["edit"].isin(["ablation", "patch"]), "effect"].iloc[0]
    controls = table.loc[table["edit"] == "control", "effect"]
    if controls.empty:
        raise InputError("causal validation: no control was run, so no effect can be read.")
    return float(real - np.quantile(controls, 0.95))


def encode_items(tokenizer: Any, rows: pd.DataFrame, options: CausalOptions) -> list[Encoded]:
    """Prompts with their answers.

    Raises:
        InputError: fewer than `options.minimum_items`.
    """
    if len(rows) < options.minimum_items:
        raise InputError(
            f"causal validation: {len(rows)} items; at least {options.minimum_items} are needed. "
            "Give more DEV rows."
        )
    return encode_all(tokenizer, rows["prompt"].tolist(), rows["answer"].tolist())


@torch.no_grad()
def answer_nll(model: nn.Module, tokenizer: Any, encoded: Sequence[Encoded]) -> Tensor:
    """Negative log-likelihood of each answer, nats, [items] fp64 on the CPU."""
    sums = []
    for start in range(0, len(encoded), 64):
        batch = collate(encoded[start : start + 64], padding_id(tokenizer), side="left")
        sums.append(batch_nll(model, batch)[0].double().cpu())
    return torch.cat(sums)


def _effect(
    model: nn.Module, tokenizer: Any, encoded: Sequence[Encoded], edits: dict[int, Edit], base: Tensor
) -> Tensor:
    with edit(model, edits):
        return answer_nll(model, tokenizer, encoded) - base


def _pushing(step: Tensor) -> Edit:
    return lambda hidden, keep: hidden - step.to(hidden)


def random_unit(width: int, *names: Any) -> Tensor:
    """A random direction on the CPU, [width]; the names decide which."""
    generator = torch.Generator().manual_seed(seed_from(*names))
    return functional.normalize(torch.randn(width, generator=generator), dim=0)


def _table(found: list[Edited], size: float, layer: int, options: CausalOptions) -> pd.DataFrame:
    rng = np.random.default_rng(seed_from("causal interval", options.seed))
    count = len(found[0][2])
    draws = rng.integers(count, size=(options.resamples, count))
    rows = []
    for name, draw, effect in found:
        values = effect.numpy()
        low, high = np.quantile(values[draws].mean(1), [0.025, 0.975])
        rows.append(
            {
                "layer": layer,
                "edit": name,
                "draw": draw,
                "effect": float(values.mean()),
                "low": float(low),
                "high": float(high),
                "size": size,
                "items": count,
            }
        )
    return pd.DataFrame(rows)
