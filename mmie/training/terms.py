"""The two terms of the loss on rows of a set, and their gradients over micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from mmie.models.hooks import capture, disabled
from mmie.models.prompts import Batch
from mmie.objectives.masking import log_probabilities, packed_nll
from mmie.objectives.registry import FORGET_LOSSES, Answers, counted_tokens, item_sums
from mmie.objectives.retain import (
    TopTokens,
    hidden_distance,
    js_divergence,
    kl_divergence,
    lumped_divergence,
    nll,
)
from mmie.training.batches import Examples
from mmie.training.cached_reference import CachedReference
from mmie.training.divergence import require_finite
from mmie.training.forward import answer_logits, answer_token_logits
from mmie.training.sets import TrainingSets
from mmie.training.settings import TrainingSettings


class Term(Protocol):
    """A forget or a retain term."""

    name: str
    examples: Examples

    def count(self, rows: Sequence[int]) -> int:
        """Number of items or answer tokens of the rows, whichever the mean is over."""

    def sums(self, rows: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Loss of each item summed over its unit, [rows]; its answer NLL, where it is known."""


class Auxiliary(Protocol):
    """A term beside forget and retain, whose rows and weight follow from the number of the step."""

    def accumulate(self, number: int, total: int, *, size: int | None, where: str) -> dict[str, float]:
        """Add the gradient of step `number` of `total`, `size` items at once; columns of the history."""


@dataclass(frozen=True)
class Value:
    """A term over all rows of a step."""

    loss: float
    """Mean over items or tokens, before weighting."""
    nll: float | None
    """Mean summed answer NLL of an item, nats."""
    items: int
    tokens: int
    """Answer tokens."""


def accumulate(term: Term, rows: Sequence[int], *, weight: float, size: int | None, where: str) -> Value:
    """Add the gradient of `weight` times the term's mean over all rows.

    Every micro-batch is divided by the true count of the whole step, so that unequal lengths and a
    smaller last part change nothing. Rows of similar length go together, which saves padding.

    Args:
        term: forget or retain.
        rows: of the term's examples.
        weight: of the term.
        size: rows in memory at once; None for all.
        where: names the step in errors.

    Raises:
        TrainingDiverged: a loss is not finite; names its items.
    """
    divisor = term.count(rows)
    losses, known = [], []
    encoded = term.examples.encoded
    whole = size is None or size >= len(rows)
    ordered = rows if whole else sorted(rows, key=lambda row: len(encoded[row].ids))
    for part in micro_batches(ordered, size):
        sums, nll_sum = term.sums(part)
        require_finite(sums, [term.examples.key(row) for row in part], f"{where}: {term.name} loss")
        (weight * sums.sum() / divisor).backward()
        losses.append(sums.detach())
        if nll_sum is not None:
            known.append(nll_sum.detach())
    lengths = term.examples.answer_lengths
    return Value(
        loss=_mean(losses, divisor),
        nll=_mean(known, len(rows)) if known else None,
        items=len(rows),
        tokens=sum(lengths[row] for row in rows),
    )


def micro_batches(rows: Sequence[int], size: int | None) -> Iterator[Sequence[int]]:
    """Cut a batch into parts of at most `size` rows; the last one may be smaller, none is dropped."""
    size = size or len(rows)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


class ForgetTerm:
    """Any objective of the catalogue on forget answers."""

    name = "forget"

    def __init__(self, model: nn.Module, sets: TrainingSets, settings: TrainingSettings) -> None:
        """Prepare; the model carries the intervention."""
        self.model, self.sets, self.examples = model, sets, sets.forget
        self.objective, self.described = settings.objective, settings.forget_term
        self.options = settings.options
        self._lengths = self.examples.answer_lengths
        self._alternate_lengths = sets.alternates.answer_lengths if sets.alternates else None

    def count(self, rows: Sequence[int]) -> int:
        if self.described.unit == "item":
            return len(rows)
        other = self._alternate_lengths
        return max(
            1,
            sum(
                counted_tokens(self.objective, self._lengths[row], None if other is None else other[row])
                for row in rows
            ),
        )

    def sums(self, rows: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        # JensUn looks at refusals alone, so the answers themselves are not computed.
        needs_answers = self.objective != "jensun"
        alternate = self._answers(self.sets.alternates, rows, self.sets.alternate_nll)
        answers = self._answers(self.examples, rows, self.sets.reference_nll) if needs_answers else alternate
        assert answers is not None
        if self.described.reference == "logits":
            with torch.no_grad(), disabled(self.model):
                reference, _, _ = answer_token_logits(self.model, self.examples.batch(rows))
            answers = replace(answers, reference_logits=reference)
        # One object for loss and history: it remembers its NLL.
        answers = replace(answers, alternate=alternate)
        loss = FORGET_LOSSES[self.objective](answers, self.options)
        with torch.no_grad():
            known = answers.nll[0] if needs_answers else None
        return loss, known

    def _answers(
        self, examples: Examples | None, rows: Sequence[int], reference: Sequence[float] | None
    ) -> Answers | None:
        if examples is None:
            return None
        logits, targets, mask = answer_token_logits(self.model, examples.batch(rows))
        start = None
        if reference is not None:
            start = torch.tensor([reference[row] for row in rows], device=logits.device)
        return Answers(logits, targets, mask, reference_nll=start)


class RetainTerm:
    """Any retain objective of the catalogue; the reference is the model with the intervention off.

    A distribution of the reference is computed beside every batch, or read from a cache.
    """

    name = "retain"

    def __init__(
        self,
        model: nn.Module,
        examples: Examples,
        settings: TrainingSettings,
        cache: CachedReference | None = None,
    ) -> None:
        """Prepare; the model carries the intervention."""
        self.model, self.examples, self.cache = model, examples, cache
        self.objective, self.described = settings.retain_objective, settings.retain_term
        self.layers: tuple[int, ...] = settings.options.get("retain_layers") or ()
        self._lengths = examples.answer_lengths

    def count(self, rows: Sequence[int]) -> int:
        return len(rows) if self.described.unit == "item" else sum(self._lengths[row] for row in rows)

    def sums(self, rows: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        batch = self.examples.batch(rows)
        if self.described.reference == "hidden":
            return self._hidden_sums(batch), None
        if self.described.reference is None:
            nll_sum, lengths = packed_nll(*answer_token_logits(self.model, batch))
            return nll(nll_sum, lengths), nll_sum
        reference = self._reference(batch) if self.cache is None else self.cache.of(rows)
        now, mask = self._log_probabilities(batch)
        if isinstance(reference, TopTokens):
            return item_sums(lumped_divergence(now, reference), mask), None
        divergence = kl_divergence if self.objective == "kl" else js_divergence
        return item_sums(divergence(now, reference), mask), None

    def _reference(self, batch: Batch) -> Tensor:
        with torch.no_grad(), disabled(self.model):
            return self._log_probabilities(batch)[0]

    def _log_probabilities(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """At answer tokens, [tokens, vocabulary], and their mask; the logits are free again on return."""
        logits, _, mask = answer_token_logits(self.model, batch)
        return log_probabilities(logits), mask

    def _hidden_sums(self, batch: Batch) -> Tensor:
        """Distance of the stream where answers are predicted, mean over the compared blocks."""
        streams = []
        for reference in (True, False):
            with ExitStack() as stack:
                if reference:
                    stack.enter_context(torch.no_grad())
                    stack.enter_context(disabled(self.model))
                seen = stack.enter_context(capture(self.model, self.layers))
                answer_logits(self.model, batch)
            streams.append(seen.hidden)
        before, now = streams
        mask = batch.answer_mask[:, 1:]
        values = []
        for at in self.layers:
            here = mask.to(now[at].device)
            values.append(hidden_distance(now[at][:, :-1][here], before[at][:, :-1][here]))
        device = values[0].device
        return item_sums(torch.stack([value.to(device) for value in values]).mean(0), mask.to(device))


def _mean(parts: list[Tensor], count: int) -> float:
    return float(torch.cat(parts).double().sum() / count)
