"""Next-token distributions of the base at the answers of retain rows, computed once a run.

The base does not change while an intervention is trained, so neither do they. What is kept are final states,
which the vocabulary projection turns into distributions when they are asked for. Where the model does more
than project, or the projection is trained, the distributions are kept themselves. Both give the divergence of
`reference: adapter_off` to rounding. Reduced to the most likely tokens, distributions give a lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmie.errors import InputError
from mmie.models.hooks import disabled
from mmie.objectives.masking import log_probabilities
from mmie.objectives.retain import TopTokens, top_tokens
from mmie.training.batches import Examples
from mmie.training.forward import answer_token_states
from mmie.training.memory import CACHE_LIMIT

ROWS_AT_ONCE = 64
"""Rows of a forward pass while it is filled."""


@dataclass(frozen=True)
class CachedReference:
    """What the base says at every answer token of some rows."""

    starts: Mapping[int, int]
    """Where the tokens of a row begin, by row number."""
    lengths: Sequence[int]
    """Answer tokens of every row of the set."""
    values: tuple[Tensor, ...]
    """Final states [tokens, width], or log p0 [tokens, vocabulary], or ids and log p0 of the top k and the
    probability of the rest."""
    projection: nn.Module | None = None
    """What makes logits of final states; None where these are not what is kept."""
    device: torch.device | None = None
    """Where the model returns logits, which need not be where it computes them."""

    def of(self, rows: Sequence[int]) -> Tensor | TopTokens:
        """Log-probabilities of the answer tokens of rows, one row after the other."""
        index = torch.cat([torch.arange(self.lengths[row]) + self.starts[row] for row in rows])
        picked = [value[index.to(value.device)] for value in self.values]
        if self.projection is not None:
            with torch.no_grad():
                return log_probabilities(self.projection(picked[0]).to(self.device))
        return picked[0] if len(picked) == 1 else TopTokens(picked[0].long(), picked[1], picked[2])

    @property
    def bytes(self) -> int:
        """What it occupies."""
        return sum(value.numel() * value.element_size() for value in self.values)


def cached_reference(
    model: nn.Module, examples: Examples, rows: Sequence[int], top: int | None
) -> CachedReference:
    """Read the base at the answers of some rows.

    Neighbours in length share a forward pass, so the result depends on the rows and not on the order in
    which a run, or a resumed run, asks for them.

    Args:
        model: the intervention, if attached, is switched off.
        examples: the set.
        rows: numbers of the rows that a run will ask for.
        top: most likely tokens to keep; None for all.

    Raises:
        InputError: it would take more than `CACHE_LIMIT` bytes.
    """
    lengths = examples.answer_lengths
    order = sorted(rows, key=lambda row: (len(examples.encoded[row].ids), row))
    starts, total = {}, 0
    for row in order:
        starts[row] = total
        total += lengths[row]
    values: list[Tensor] = []
    device: torch.device | None = None
    # Asked before the intervention is off: adapters that are off do not count as trained.
    projection = _frozen_projection(model) if top is None else None
    training = model.training
    model.eval()
    try:
        # Not inference mode: what is stored here takes part in gradients later.
        with torch.no_grad(), disabled(model):
            for first in range(0, len(order), ROWS_AT_ONCE):
                chosen = order[first : first + ROWS_AT_ONCE]
                states, logits, _, _ = answer_token_states(model, examples.batch(chosen))
                if not values and projection is not None and not _reproduces(projection, states, logits):
                    projection = None
                parts = (states,) if projection is not None else _reduced(logits, top)
                if not values:
                    _check_size(total, parts, top, "final states" if projection else "distributions")
                    values = [part.new_empty(total, *part.shape[1:]) for part in parts]
                    device = logits.device
                place = starts[chosen[0]]
                for value, part in zip(values, parts, strict=True):
                    value[place : place + len(part)] = part
    finally:
        model.train(training)
    return CachedReference(starts, lengths, tuple(values), projection, device)


def _frozen_projection(model: nn.Module) -> nn.Module | None:
    """The vocabulary projection, unless it or an adapter on it is trained."""
    unwrapped: Any = model
    projection: nn.Module = unwrapped.get_output_embeddings()
    return None if any(value.requires_grad for value in projection.parameters()) else projection


def _reproduces(projection: nn.Module, states: Tensor, logits: Tensor) -> bool:
    """Whether logits are what the projection makes of the states; some models scale or cap them."""
    # Some models return logits on another device or in another type than they compute them in.
    return torch.allclose(projection(states).to(logits), logits, rtol=1e-4, atol=1e-5)


def _reduced(logits: Tensor, top: int | None) -> tuple[Tensor, ...]:
    if top is None:
        return (log_probabilities(logits),)
    kept = top_tokens(logits, top)
    return kept.ids.int(), kept.log_probabilities, kept.rest


def _check_size(tokens: int, parts: Sequence[Tensor], top: int | None, kept: str) -> None:
    needed = tokens * sum(part[0].numel() * part.element_size() for part in parts)
    if needed > CACHE_LIMIT:
        fitting = (CACHE_LIMIT // (4 * tokens) - 1) // 2
        remedy = f"reference_top: {min(64, fitting)} (kl only), or " if fitting > 0 else ""
        raise InputError(
            f"training.reference: cached takes {needed / 2**20:.0f} MiB for the "
            f"{f'{top} most likely tokens' if top else kept} at {tokens} answer tokens, at most "
            f"{CACHE_LIMIT / 2**20:.0f} MiB are allowed. Set {remedy}reference: adapter_off."
        )
