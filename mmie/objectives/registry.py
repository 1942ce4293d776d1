"""From the name of an objective to its value on a batch: one sum an item, over its unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mmie.objectives import forget, retain, tokens
from mmie.objectives.masking import packed_nll


@dataclass(frozen=True)
class Answers:
    """Answer tokens of a batch as a model predicts them; logits are aligned with what they predict."""

    logits: Tensor
    """Of answer tokens alone, rows one after the other, [tokens, vocabulary]."""
    targets: Tensor
    """Token ids, [tokens]."""
    mask: Tensor
    """True on answer tokens, [batch, columns]."""
    reference_nll: Tensor | None = None
    """Summed NLL under the frozen reference, nats, [batch]."""
    reference_logits: Tensor | None = None
    """Logits of the frozen reference, [tokens, vocabulary]."""
    alternate: Answers | None = None
    """Other answers to the same prompts."""

    @cached_property
    def nll(self) -> tuple[Tensor, Tensor]:
        """L in nats and T, [batch] each."""
        return packed_nll(self.logits, self.targets, self.mask)

    @property
    def gain(self) -> Tensor:
        """L - L0, nats, [batch]."""
        assert self.reference_nll is not None
        return self.nll[0] - self.reference_nll

    @property
    def nll_mean(self) -> Tensor:
        """L / T, nats a token, [batch]."""
        return retain.nll(*self.nll)


Options = Mapping[str, Any]
ForgetLoss = Callable[[Answers, Options], Tensor]
"""One value an item, [batch]: its loss, or for a mean over tokens the sum over its tokens."""


def _bounded(answers: Answers, options: Options) -> Tensor:
    bound = options["bound"] or math.log(answers.logits.shape[-1]) / 2
    return forget.bounded(answers.nll_mean, bound)


def _npo(answers: Answers, options: Options) -> Tensor:
    assert answers.reference_nll is not None
    return forget.npo(answers.nll[0], answers.reference_nll, options["beta"])


def _preference(answers: Answers, options: Options) -> Tensor:
    assert answers.alternate is not None
    beta = options["beta"]
    scale = 1.0 if options["preference_scale"] == "one" else 2.0 / beta
    return forget.preference(answers.gain, answers.alternate.gain, beta, scale)


def _per_token(loss: Callable[[Tensor, Tensor, Options], Tensor]) -> ForgetLoss:
    """Apply a token loss to answer tokens alone and sum it over each item."""

    def summed(answers: Answers, options: Options) -> Tensor:
        return item_sums(loss(answers.logits, answers.targets, options), answers.mask)

    return summed


def _undial(answers: Answers, options: Options) -> Tensor:
    assert answers.reference_logits is not None
    values = tokens.undial(answers.logits, answers.targets, answers.reference_logits, options["beta"])
    return item_sums(values, answers.mask)


def _after_first_token(answers: Answers, options: Options) -> Tensor:
    later = answers.mask & (answers.mask.cumsum(-1) > 1)
    kept = later[answers.mask]
    values = tokens.cross_entropy_unlearning(answers.logits[kept], answers.targets[kept])
    return item_sums(values, later)


def _on_alternates(answers: Answers, options: Options) -> Tensor:
    assert answers.alternate is not None
    inner = _per_token(lambda logits, targets, _: tokens.jensun(logits, targets))
    return inner(answers.alternate, options)


FORGET_LOSSES: Mapping[str, ForgetLoss] = {
    "npo": _npo,
    "simnpo": lambda answers, o: forget.simnpo(answers.nll_mean, o["beta"], o["delta"]),
    "gradient_ascent": lambda answers, o: forget.gradient_ascent(answers.nll_mean),
    "graddiff": lambda answers, o: forget.gradient_ascent(answers.nll_mean),
    "bounded": _bounded,
    "idk_dpo": _preference,
    "altpo": _preference,
    "inverted_hinge": _per_token(lambda logits, targets, o: tokens.inverted_hinge(logits, targets)),
    "max_entropy": _per_token(lambda logits, targets, o: tokens.max_entropy(logits)),
    "max_entropy_reverse": _per_token(lambda logits, targets, o: tokens.max_entropy_reverse(logits)),
    "wga": _per_token(lambda logits, targets, o: tokens.weighted_ascent(logits, targets, o["beta"])),
    "satimp": _per_token(
        lambda logits, targets, o: tokens.satimp(
            logits, targets, o["saturation_power"], o["importance_power"]
        )
    ),
    "ce_u": _after_first_token,
    "undial": _undial,
    "jensun": _on_alternates,
    "pdu": _per_token(lambda logits, targets, o: tokens.logit_spread(logits)),
}


def counted_tokens(name: str, length: int, alternate_length: int | None) -> int:
    """How many tokens of an item enter a mean over tokens.

    Args:
        name: of the forget objective.
        length: tokens of its answer.
        alternate_length: tokens of its other answer, where there is one.
    """
    if name == "ce_u":
        return length - 1
    if name == "jensun":
        assert alternate_length is not None
        return alternate_length
    return length


def item_sums(values: Tensor, mask: Tensor) -> Tensor:
    """Sums of token values [tokens] over the items of a mask [batch, columns], [batch]."""
    return values.new_zeros(mask.shape[0]).index_add(0, torch.nonzero(mask)[:, 0], values)
