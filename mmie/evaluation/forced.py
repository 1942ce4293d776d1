"""Scores of the expected answers under teacher forcing: one forward pass for all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

LIKELIHOOD_SCORES = (
    "answer_probability", "nll_sum", "bits_per_byte", "exact_memorisation", "extraction_strength",
    "mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus",
)  # fmt: skip


def likelihood(model: Any, tokenizer: Any, rows: pd.DataFrame, *, batch_size: int) -> dict[str, list[float]]:
    """Teacher-forced scores of the expected answers, from one forward pass.

    answer_probability, nll_sum and the membership scores count the end token as an answer token, as
    training does; bits_per_byte, exact_memorisation and extraction_strength do not: it has no bytes, and
    a model that says more after the right answer has still memorised it.

    Returns:
        Columns `LIKELIHOOD_SCORES` and n_tokens, one value for each of `rows`. All scores of a row whose
        loss is not finite are NaN: a prediction made of NaN would still look like a token.
    """
    columns: dict[str, list[float]] = {}
    for indices, logits, target, mask in passes(
        model, tokenizer, rows["prompt"].tolist(), rows["answer"].tolist(), batch_size
    ):
        for name, value in _batch_scores(logits, target, mask).items():
            column = columns.setdefault(name, [math.nan] * len(rows))
            for index, number in zip(indices, value.tolist(), strict=True):
                column[index] = float(number)
    return _finish(columns, rows["answer"].tolist())


def passes(
    model: Any, tokenizer: Any, prompts: Sequence[str], answers: Sequence[str], batch_size: int
) -> Iterator[tuple[list[int], Tensor, Tensor, Tensor]]:
    """Forward passes over prompts with their answers, items of similar length together.

    Yields:
        Indices of the items, and for these logits [batch, columns, vocabulary] that predict target ids
        [batch, columns], and the answer mask [batch, columns].
    """
    import torch

    from mmie.models.prompts import collate, encode_all, length_buckets, padding_id
    from mmie.training.forward import answer_logits

    encoded = encode_all(tokenizer, prompts, answers)
    for indices in length_buckets(encoded, batch_size):
        batch = collate([encoded[index] for index in indices], padding_id(tokenizer), side="left")
        with torch.no_grad():
            logits, target, mask = answer_logits(model, batch)
        yield indices, logits, target, mask


def _batch_scores(logits: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
    from mmie.metrics import likelihood as metrics
    from mmie.metrics import membership
    from mmie.objectives.masking import token_nll

    nll = token_nll(logits, target, mask)
    predicted, content = logits.argmax(-1), metrics.without_end(mask)
    return {
        "answer_probability": metrics.answer_probability(nll, mask),
        "nll_sum": metrics.summed(nll, mask),
        "n_tokens": mask.sum(-1),
        "content_nll": metrics.summed(nll, content),
        "exact_memorisation": metrics.exact_memorisation(predicted, target, content),
        "extraction_strength": metrics.extraction_strength(predicted, target, content),
        "mia_min_k": membership.min_k(nll, mask),
        "mia_min_k_plus_plus": membership.min_k_plus_plus(logits, target, mask),
    }


def _finish(columns: dict[str, list[float]], answers: Sequence[str]) -> dict[str, list[float]]:
    """Add the scores that need the text, and take back those of rows without a finite loss."""
    from mmie.metrics.likelihood import bits_per_byte
    from mmie.metrics.membership import loss_score, zlib_score

    totals = list(zip(columns["nll_sum"], columns["n_tokens"], strict=True))
    columns["bits_per_byte"] = [
        bits_per_byte(total, answer)
        for total, answer in zip(columns.pop("content_nll"), answers, strict=True)
    ]
    columns["mia_loss"] = [loss_score(total, count) for total, count in totals]
    columns["mia_zlib"] = [
        zlib_score(total, count, answer) for (total, count), answer in zip(totals, answers, strict=True)
    ]
    for place, (total, _) in enumerate(totals):
        if not math.isfinite(total):
            for name in LIKELIHOOD_SCORES:
                columns[name][place] = math.nan
    return columns
