"""How much text a length limit costs, before anything is cut off."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from mmie.errors import InputError


@dataclass(frozen=True)
class Lengths:
    """Token lengths of a set against a limit.

    Attributes:
        rows: number of texts.
        longest: tokens of the longest one.
        truncated_share: share of the texts that are longer than the limit.
        lost_tokens: tokens beyond the limit, over all texts.
        tokens_per_character: all tokens over all characters: what a language pays for its script.
    """

    rows: int
    longest: int
    truncated_share: float
    lost_tokens: int
    tokens_per_character: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def truncation_report(
    tokens: ArrayLike,
    characters: ArrayLike,
    limit: int,
    *,
    name: str,
    truncated_limit: float = 0.0,
) -> Lengths:
    """Measure what `limit` cuts off, and refuse it when it is too much.

    Args:
        tokens: length of each text in tokens.
        characters: length of each text in characters.
        limit: tokens that are kept of a text.
        name: what errors call the set, with its language.
        truncated_limit: largest share of texts that may be cut.

    Raises:
        InputError: no texts, or a larger share is cut.
    """
    lengths, texts = np.asarray(tokens), np.asarray(characters)
    if len(lengths) == 0 or len(lengths) != len(texts):
        raise InputError(f"{name}: {len(lengths)} token and {len(texts)} character lengths. Give both.")
    found = Lengths(
        rows=len(lengths),
        longest=int(lengths.max()),
        truncated_share=float((lengths > limit).mean()),
        lost_tokens=int(np.maximum(lengths - limit, 0).sum()),
        tokens_per_character=float(lengths.sum() / max(int(texts.sum()), 1)),
    )
    if found.truncated_share > truncated_limit:
        raise InputError(
            f"{name}: {found.truncated_share:.1%} of the texts are longer than {limit} tokens and would lose "
            f"{found.lost_tokens} tokens (allowed: {truncated_limit:.1%}). Raise the length or shorten them."
        )
    return found
