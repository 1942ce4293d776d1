"""How far an arm's next-token distribution is from the base's, on the answers of TEST prompts.

The base is asked before the arm is applied: an oracle or a noised model has no base inside it that could
be asked later. Only its most likely tokens are kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmie.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from mmie.objectives.retain import TopTokens

TOP = 64


@dataclass(frozen=True)
class BaseDistribution:
    """Top tokens of the base at every answer position, a batch an entry, and the rows they belong to."""

    example_ids: tuple[str, ...]
    batches: tuple[TopTokens, ...]


def base_distribution(
    model: Any, tokenizer: Any, rows: pd.DataFrame, *, batch_size: int, top: int = TOP
) -> BaseDistribution:
    """What the base says on direct TEST rows; call it outside `applied`.

    Args:
        model: the base model.
        tokenizer: its tokenizer.
        rows: the prompts that will be scored.
        batch_size: the same as in `kl_scores`.
        top: tokens kept of each distribution, the rest in one lump.
    """
    from mmie.evaluation.forced import passes
    from mmie.objectives.retain import top_tokens

    wanted = rows[_measured(rows)]
    prompts, answers = wanted["prompt"].tolist(), wanted["answer"].tolist()
    batches = tuple(
        top_tokens(logits, top) for _, logits, _, _ in passes(model, tokenizer, prompts, answers, batch_size)
    )
    return BaseDistribution(tuple(wanted["example_id"]), batches)


def kl_scores(
    model: Any, tokenizer: Any, rows: pd.DataFrame, base: BaseDistribution, *, batch_size: int
) -> list[float]:
    """`kl_from_base` on direct TEST rows, NaN on others; one value for each of `rows`.

    KL(p_base; p), mean over answer tokens, nats per token, tokens outside the base's top in one lump: a
    lower bound of `mmie.metrics.divergence.kl_from_base`, within its tail.

    Raises:
        InputError: `base` is about other rows or batches.
    """
    from mmie.evaluation.forced import passes
    from mmie.metrics.likelihood import summed
    from mmie.objectives.retain import token_kl_cached

    measured = _measured(rows)
    wanted = rows[measured]
    if tuple(wanted["example_id"]) != base.example_ids:
        raise InputError("kl_from_base: the base was asked about other rows. Ask it about the same ones.")
    prompts, answers = wanted["prompt"].tolist(), wanted["answer"].tolist()
    found = [math.nan] * len(wanted)
    batches = passes(model, tokenizer, prompts, answers, batch_size)
    for (indices, logits, _, mask), reference in zip(batches, base.batches, strict=True):
        values = summed(token_kl_cached(logits, reference), mask) / mask.sum(-1)
        for index, value in zip(indices, values.tolist(), strict=True):
            # A sum of rounded terms may end a hair below 0, which no divergence is.
            found[index] = max(0.0, value) if math.isfinite(value) else math.nan
    values_in_order = iter(found)
    return [next(values_in_order) if wanted_here else math.nan for wanted_here in measured]


def _measured(rows: pd.DataFrame) -> pd.Series:
    return (rows["kind"] == "direct") & (rows["split"] == "test")
