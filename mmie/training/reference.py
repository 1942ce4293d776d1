"""What the frozen base model says about the answers, computed once and stored."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import nn

from mmie.errors import InputError
from mmie.training.batches import Examples
from mmie.training.divergence import require_finite
from mmie.training.forward import batch_nll, model_limit

_COLUMNS = ["example_id", "language", "nll_sum", "n_tokens"]


def reference_log_likelihoods(
    model: nn.Module, tokenizer: Any, rows: pd.DataFrame, batch_size: int = 64
) -> pd.DataFrame:
    """Answer negative log-likelihoods of every row under the model as it is.

    Args:
        model: a causal language model; its training mode is restored afterwards.
        tokenizer: of the model.
        rows: columns example_id, language, prompt, answer.
        batch_size: rows in a forward pass; it does not change the result beyond float32 rounding.

    Returns:
        One row per input row, in its order: example_id, language, nll_sum (nats), n_tokens.
    """
    examples = Examples.from_rows(rows, tokenizer, longest=model_limit(model), name="reference")
    sums = answer_sums(model, examples, batch_size)
    return pd.DataFrame(
        {
            "example_id": examples.example_ids,
            "language": examples.languages,
            "nll_sum": sums,
            "n_tokens": examples.answer_lengths,
        }
    )


def answer_sums(model: nn.Module, examples: Examples, batch_size: int = 64) -> list[float]:
    """Summed answer NLL of every example under the model as it is, nats, without a graph.

    Raises:
        TrainingDiverged: a value is not finite; names its items.
    """
    # Neighbours in length share a batch, so that little padding is computed.
    order = sorted(range(len(examples)), key=lambda index: len(examples.encoded[index].ids))
    sums = [0.0] * len(examples)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                chosen = order[start : start + batch_size]
                nll_sum, _ = batch_nll(model, examples.batch(chosen))
                require_finite(nll_sum, [examples.key(index) for index in chosen], "reference")
                for index, value in zip(chosen, nll_sum.tolist(), strict=True):
                    sums[index] = value
    finally:
        model.train(training)
    return sums


def reference_sums(reference: pd.DataFrame | None, examples: Examples) -> list[float]:
    """Look up the stored nll_sum of each example.

    Raises:
        InputError: no table, a row that it lacks, or one encoded to another length.
    """
    if reference is None:
        raise InputError("no reference log-likelihoods were given. Run the base stage first.")
    stored = {
        (str(example_id), str(language)): (float(nll_sum), int(n_tokens))
        for example_id, language, nll_sum, n_tokens in reference[_COLUMNS].to_numpy().tolist()
    }
    sums = []
    pairs = zip(examples.example_ids, examples.languages, examples.answer_lengths, strict=True)
    for example_id, language, length in pairs:
        found = stored.get((example_id, language))
        if found is None or found[1] != length:
            problem = "no entry" if found is None else f"{found[1]} answer tokens, now {length},"
            raise InputError(
                f"reference log-likelihoods: {problem} for {example_id} ({language}). "
                "Run the base stage again on the same rows."
            )
        sums.append(found[0])
    return sums
