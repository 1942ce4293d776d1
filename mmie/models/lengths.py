"""The one length limit of an experiment, and what it costs each set of texts."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from mmie.data.lengths import truncation_report
from mmie.errors import InputError
from mmie.models.prompts import encode_all
from mmie.training.forward import model_limit

if TYPE_CHECKING:
    import pandas as pd

GENERATION = "generation"


def resolved_length(model: Any, wanted: int | None) -> int:
    """The length limit of every stage, in tokens.

    Args:
        model: the base model; the positions it has are the largest limit.
        wanted: `model.max_length`, None for all of them.

    Raises:
        InputError: more tokens than positions, or no limit anywhere.
    """
    positions = model_limit(model)
    if wanted is None and positions is None:
        raise InputError("model.max_length: the model states no largest length. Give one.")
    if wanted is not None and positions is not None and wanted > positions:
        raise InputError(
            f"model.max_length: {wanted} tokens, but the model has {positions} positions. Lower it."
        )
    return int(wanted if wanted is not None else positions or 0)


def set_lengths(
    tokenizer: Any, rows: pd.DataFrame, *, max_new_tokens: int, truncated_limit: float, language: str
) -> dict[str, dict[str, float]]:
    """Token lengths of each split, and of the prompts that generations continue, against the limit.

    Args:
        tokenizer: of the base stage; its `model_max_length` is the limit.
        rows: cleaned rows of one language.
        max_new_tokens: tokens that a generation may add to its prompt.
        truncated_limit: largest share of a set's texts that may be cut.
        language: what errors call the rows.

    Returns:
        `mmie.data.lengths.Lengths` as a dictionary, by split and for "generation", and the limit of each.

    Raises:
        InputError: a larger share of a set is cut, or the limit leaves no room for a prompt.
    """
    limit = int(tokenizer.model_max_length)
    if limit - max_new_tokens < 2:
        raise InputError(
            f"model.max_length: {limit} tokens leave no prompt beside decoding.max_new_tokens = "
            f"{max_new_tokens}. Raise the one or lower the other."
        )
    whole = _lengths(tokenizer, rows["prompt"].tolist(), rows["answer"].tolist())
    characters = (rows["prompt"].str.len() + rows["answer"].str.len()).to_numpy()
    sets = {
        str(split): (whole[places], characters[places], limit)
        for split, places in rows.groupby("split", sort=True).indices.items()
    }
    prompts = _lengths(tokenizer, rows["prompt"].tolist(), [None] * len(rows))
    sets[GENERATION] = (prompts, rows["prompt"].str.len().to_numpy(), limit - max_new_tokens)
    return {
        name: {
            "limit": bound,
            **truncation_report(
                tokens, counts, bound, name=f"{language}, {name}", truncated_limit=truncated_limit
            ).as_dict(),
        }
        for name, (tokens, counts, bound) in sets.items()
    }


def _lengths(tokenizer: Any, prompts: list[str], answers: list[str | None]) -> Any:
    """Tokens of each whole item, before anything is cut."""
    unlimited = copy.copy(tokenizer)
    unlimited.model_max_length = np.iinfo(np.int64).max
    return np.array([len(item.ids) for item in encode_all(unlimited, prompts, answers)])
