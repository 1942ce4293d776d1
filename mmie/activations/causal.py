"""Does a layer matter for the answers? Directional ablation and patching of matched pairs.

Both act on declared positions of the prompt pass only. Overwriting every position at every decoding
step would measure damage, so every effect stands beside edits of the same size in random directions.
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
from mmie.models.hooks import Edit, capture, edit
from mmie.models.prompts import Encoded, collate, encode_all, padding_id
from mmie.training.forward import batch_nll

FEWEST_ITEMS = 50

Edited = tuple[str, int, Tensor]
"""What was done ("ablation", "patch", "self", "control"), its draw, and its effect on each item [items]."""


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
    encoded = _encoded(tokenizer, rows, options)
    base = _nll(model, tokenizer, encoded)
    v = direction.to(next(model.parameters()).device).float()
    sizes: list[Tensor] = []

    def ablation(hidden: Tensor, keep: Tensor) -> Tensor:
        change = (hidden.float() @ v - mean).unsqueeze(-1) * v
        sizes.append(change.norm(dim=-1)[keep])
        return hidden - change.to(hidden.dtype)

    found = [("ablation", 0, _effect(model, tokenizer, encoded, {layer: ablation}, base))]
    size = float(torch.cat(sizes).mean())
    for draw in range(options.controls):
        step = size * _unit(len(v), "ablation control", options.seed, layer, draw)
        push = _pushing(step)
        found.append(("control", draw, _effect(model, tokenizer, encoded, {layer: push}, base)))
    return found, size


def patching_effect(
    model: nn.Module,
    tokenizer: Any,
    target: pd.DataFrame,
    source: pd.DataFrame,
    layer: int,
    options: CausalOptions = CausalOptions(),
) -> pd.DataFrame:
    """What the state at the last prompt token carries: row i of `source` is patched into row i of `target`.

    The outcome of item i is m = log p(source answer) - log p(target answer) after the target prompt;
    the effect is its rise. Answers of both rows are in the target's language, so give each source row
    `other_answer`, its answer there.

    Controls: `self` (the target's own state; exactly 0) and random patches, the target's state moved by
    a random vector as long as the patch moves it.

    Args:
        model: the base model.
        tokenizer: its tokenizer.
        target: prompts and answers of language B.
        source: prompts of language A, one for each target row, with `other_answer` in language B.
        layer: whose output is patched, at the last prompt token.
        options: sizes and seed.

    Returns:
        As `ablation_effect`, with `edit` "patch", "self" or "control".

    Raises:
        InputError: too few items, or unmatched rows.

    Source: Zhang and Nanda 2023 (arXiv 2309.16042); across languages: arXiv 2411.08745.
    """
    if len(target) != len(source) or "other_answer" not in source:
        raise InputError("patching: source and target rows must match one to one, with `other_answer`.")
    own = _encoded(tokenizer, target, options)
    other = _encoded(tokenizer, target.assign(answer=source["other_answer"].to_numpy()), options)
    states = {
        name: _last_prompt_states(model, tokenizer, rows, layer)
        for name, rows in (("target", target), ("source", source))
    }
    difference = states["source"] - states["target"]
    size = difference.norm(dim=-1)

    def contrast(patch: Tensor | None) -> Tensor:
        return _patched_nll(model, tokenizer, own, layer, patch) - _patched_nll(
            model, tokenizer, other, layer, patch
        )

    base = contrast(None)
    found = [
        ("patch", 0, contrast(states["source"]) - base),
        ("self", 0, contrast(states["target"]) - base),
    ]
    for draw in range(options.controls):
        unit = _unit(difference.shape[1], "patch control", options.seed, layer, draw)
        found.append(("control", draw, contrast(states["target"] + size[:, None] * unit) - base))
    return _table(found, float(size.mean()), layer, options)


def beyond_chance(table: pd.DataFrame) -> float:
    """Effect of the ablation or patch beyond the 95th percentile of its controls, nats."""
    real = table.loc[table["edit"].isin(["ablation", "patch"]), "effect"].iloc[0]
    controls = table.loc[table["edit"] == "control", "effect"]
    if controls.empty:
        raise InputError("causal validation: no control was run, so no effect can be read.")
    return float(real - np.quantile(controls, 0.95))


def _encoded(tokenizer: Any, rows: pd.DataFrame, options: CausalOptions) -> list[Encoded]:
    if len(rows) < options.minimum_items:
        raise InputError(
            f"causal validation: {len(rows)} items; at least {options.minimum_items} are needed. "
            "Give more DEV rows."
        )
    return encode_all(tokenizer, rows["prompt"].tolist(), rows["answer"].tolist())


@torch.no_grad()
def _nll(model: nn.Module, tokenizer: Any, encoded: Sequence[Encoded]) -> Tensor:
    sums = []
    for start in range(0, len(encoded), 64):
        batch = collate(encoded[start : start + 64], padding_id(tokenizer), side="left")
        sums.append(batch_nll(model, batch)[0].double().cpu())
    return torch.cat(sums)


def _effect(
    model: nn.Module, tokenizer: Any, encoded: Sequence[Encoded], edits: dict[int, Edit], base: Tensor
) -> Tensor:
    with edit(model, edits):
        return _nll(model, tokenizer, encoded) - base


def _pushing(step: Tensor) -> Edit:
    return lambda hidden, keep: hidden - step.to(hidden)


@torch.no_grad()
def _last_prompt_states(model: nn.Module, tokenizer: Any, rows: pd.DataFrame, layer: int) -> Tensor:
    """Block output at the last prompt token of each row, [items, width]."""
    device, states = next(model.parameters()).device, []
    encoded = encode_all(tokenizer, rows["prompt"].tolist(), [None] * len(rows))
    for start in range(0, len(encoded), 64):
        batch = collate(encoded[start : start + 64], padding_id(tokenizer), side="left").to(device)
        with capture(model, [layer]) as seen:
            model(**batch.inputs(), use_cache=False)
        states.append(seen.hidden[layer][:, -1].float())
    return torch.cat(states)


@torch.no_grad()
def _patched_nll(
    model: nn.Module, tokenizer: Any, encoded: Sequence[Encoded], layer: int, patch: Tensor | None
) -> Tensor:
    """NLL of each answer with the last prompt token's state replaced by a row of `patch`."""
    if patch is None:
        return _nll(model, tokenizer, encoded)
    sums = []
    for start in range(0, len(encoded), 64):
        batch = collate(encoded[start : start + 64], padding_id(tokenizer), side="left")
        place = batch.answer_mask.int().argmax(1) - 1
        here = functional.one_hot(place, batch.input_ids.shape[1]).bool()
        rows = patch[start : start + 64]

        def put(hidden: Tensor, keep: Tensor, here: Tensor = here, rows: Tensor = rows) -> Tensor:
            new = rows[:, None].to(hidden).expand_as(hidden)
            return torch.where(here.to(hidden.device)[..., None], new, hidden)

        with edit(model, {layer: put}):
            sums.append(batch_nll(model, batch)[0].double().cpu())
    return torch.cat(sums)


def _unit(width: int, *names: Any) -> Tensor:
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
