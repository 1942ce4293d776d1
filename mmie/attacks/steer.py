"""Steering recovery: is the forgotten still there, one direction away?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from mmie.attacks.scoring import Probability, Score, require_rows, scored
from mmie.errors import InputError
from mmie.interventions.interface import Intervention
from mmie.io import seed_from
from mmie.models.blocks import find_blocks, input_device
from mmie.models.hooks import capture, edit, kept_tokens
from mmie.models.prompts import collate, encode_all, length_buckets, padding_id

Edits = dict[int, Any]


@dataclass(frozen=True)
class States:
    """Residual stream of a model over the tokens of some prompts, by layer."""

    means: dict[int, Tensor]
    """Mean over tokens, [width], float32."""
    norms: dict[int, float]
    """Median norm of a token."""


@dataclass(frozen=True)
class Push:
    """The chosen steering: `strength * norm` along `direction` at the output of one block."""

    layer: int
    strength: float
    norm: float
    direction: Tensor
    """Unit vector, [width]."""

    def edits(self) -> Edits:
        """For `mmie.models.hooks.edit`."""
        step = self.strength * self.norm * self.direction
        return {self.layer: lambda hidden, keep: hidden + step.to(hidden.device, hidden.dtype)}

    def __str__(self) -> str:
        return f"layer {self.layer}, strength {self.strength:g}"


UNSTEERED = "none helped on DEV"


def steer(
    model: nn.Module,
    tokenizer: Any,
    intervention: Intervention,
    dev_rows: pd.DataFrame,
    test_rows: pd.DataFrame,
    *,
    strengths: Sequence[float] = (0.25, 0.5, 1.0),
    layers: Sequence[int] | None = None,
    batch_size: int = 64,
    seed: int,
    score: Score,
    probability: Probability,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Add the difference in means between base and arm back to the arm's residual stream.

    h + strength n_l v_l, v_l = unit(mean h_l(base) - mean h_l(arm)) and n_l the base's median norm, both
    over the tokens of DEV forget prompts; added at every token of one layer. Layer and strength are
    those with the largest mean answer probability on DEV; none, where no push raises it. The control
    takes a random direction at the same layer and strength.

    For the base v is 0 everywhere, so it is scored as it is.

    Args:
        model: the base model.
        tokenizer: of the model.
        intervention: fitted to it.
        dev_rows: DEV forget rows, for the direction and the choice.
        test_rows: TEST forget rows, scored once.
        strengths: in units of n_l.
        layers: tried blocks; None for all.
        batch_size: prompts in a forward pass.
        seed: of the random direction.
        score: scores a model on rows.
        probability: of the expected answers, for the choice on DEV.

    Returns:
        (attack, control): two tables of `mmie.attacks.scoring.scored`, `variant` the layer and strength.

    Raises:
        InputError: an empty set, or strengths that are not above 0.

    Source: arXiv 2606.03291 reports such recoveries; its exact recipe is not public.
    """
    require_rows(dev_rows, "steer", "DEV")
    require_rows(test_rows, "steer")
    if not strengths or min(strengths) <= 0:
        raise InputError(f"attacks.steer.strengths: {list(strengths)}. Give numbers above 0.")
    wanted = list(range(len(find_blocks(model)))) if layers is None else list(layers)
    prompts = dev_rows["prompt"].tolist()
    base = residual_states(model, tokenizer, prompts, wanted, batch_size)
    with intervention.applied(model) as changed:
        arm = residual_states(changed, tokenizer, prompts, wanted, batch_size)
        candidates = pushes(base, arm, strengths)
        chosen = strongest(changed, candidates, dev_rows, probability)
        if chosen is None:
            table = scored(changed, test_rows, score, variant=UNSTEERED)
            return table, table.copy()
        with edit(changed, chosen.edits()):
            attack = scored(changed, test_rows, score, variant=str(chosen))
        with edit(changed, at_random(chosen, seed).edits()):
            control = scored(changed, test_rows, score, variant=f"{chosen}, random direction")
    return attack, control


@torch.no_grad()
def residual_states(
    model: Any, tokenizer: Any, prompts: Sequence[str], layers: Sequence[int], batch_size: int
) -> States:
    """Mean and median norm of the residual stream over all prompt tokens but each first one.

    A model with an edit attached gives the edited stream; what an arm puts before a prompt is left out.
    """
    encoded = encode_all(tokenizer, list(prompts), [None] * len(prompts))
    rows: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    for indices in length_buckets(encoded, batch_size):
        batch = collate([encoded[index] for index in indices], padding_id(tokenizer), side="left")
        keep = kept_tokens(batch.attention_mask)
        with capture(model, layers) as captured:
            model(**batch.to(input_device(model)).inputs(), use_cache=False)
        for layer in layers:
            # Own tokens stand at the end: a prefix that an arm puts in lengthens the pass at its start.
            hidden = captured.hidden[layer][:, -keep.shape[1] :].float().cpu()
            rows[layer].append(hidden[keep])
    tokens = {layer: torch.cat(parts) for layer, parts in rows.items()}
    if not all(len(found) for found in tokens.values()):
        raise InputError("steer: the DEV prompts have no token besides the first. Give longer prompts.")
    return States(
        means={layer: found.double().mean(0).float() for layer, found in tokens.items()},
        norms={layer: float(found.norm(dim=1).median()) for layer, found in tokens.items()},
    )


def pushes(base: States, arm: States, strengths: Sequence[float]) -> list[Push]:
    """Every layer and strength to try, gentlest first; layers where base and arm agree have none."""
    found = []
    for strength in sorted(strengths):
        for layer, mean in base.means.items():
            difference = mean - arm.means[layer]
            length = float(difference.norm())
            if length > 0:
                found.append(Push(layer, strength, base.norms[layer], difference / length))
    return found


def strongest(
    model: nn.Module, candidates: Sequence[Push], rows: pd.DataFrame, probability: Probability
) -> Push | None:
    """The push with the largest mean answer probability on the rows; None if doing nothing is as good."""
    best, chosen = _mean(probability(model, rows)), None
    for push in candidates:
        with edit(model, push.edits()):
            reached = _mean(probability(model, rows))
        if reached > best:
            best, chosen = reached, push
    return chosen


def at_random(push: Push, seed: int) -> Push:
    """The same layer and length in a direction drawn from the seed, uniform on the sphere."""
    generator = torch.Generator().manual_seed(seed_from("steer", seed, push.layer))
    drawn = torch.randn(push.direction.shape, generator=generator)
    return Push(push.layer, push.strength, push.norm, drawn / drawn.norm())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
