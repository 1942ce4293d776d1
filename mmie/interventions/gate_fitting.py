"""Fit a gate on stored activations: scores of tokens by item, and the calibrated detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmie.activations.storage import load_rows
from mmie.interventions.gates import Detector, calibrate, token_log_odds
from mmie.io import read_parquet, read_safetensors

CALIBRATION_SPLIT = "dev"
"""Items that neither the autoencoder nor the choice of latents was fitted on."""


def stream_scores(
    activations: Path,
    layer: int,
    language: str,
    split: str,
    score: Callable[[Tensor], tuple[Tensor, Tensor]],
) -> list[Tensor]:
    """Scores of the tokens of each item that count for the edit when it acts.

    Args:
        activations: of the activation stage, which left out first and special tokens.
        layer: whose rows.
        language: whose items.
        split: items of this split.
        score: (rows [n, width]) -> scores [n], and which rows count [n]. It decides alone which are sinks:
            the norm that a request is held against is not that of one language.
    """
    store = load_rows(activations, layer, [language], split, sinks=True)
    scores, items = [], []
    for rows, item in store.batches(language, 4096):
        found, counts = score(rows)
        scores.append(found[counts].float())
        items.append(item[counts.numpy()])
    return _by_item(torch.cat(scores), np.concatenate(items))


def text_scores(activations: Path, language: str, split: str, log_odds: Tensor) -> list[Tensor]:
    """Log-odds of the stored tokens of each item."""
    tokens, items = _tokens(activations, language, split)
    return _by_item(log_odds[tokens], items)


def fit_log_odds(activations: Path, forget: Sequence[str], benign: Sequence[str], vocabulary: int) -> Tensor:
    """Token log-odds of the FIT text of forget against benign languages, [vocabulary]."""
    counts = []
    for languages in (forget, benign):
        total = torch.zeros(vocabulary, dtype=torch.float64)
        for language in languages:
            own = torch.bincount(_tokens(activations, language, "fit")[0], minlength=vocabulary)
            # Languages weigh equally, however many tokens they need for the same text.
            total += own / own.sum() / len(languages) * 100_000
        counts.append(total)
    return token_log_odds(*counts)


def fit_gate(
    statistic: str,
    forget: Sequence[str],
    benign: Sequence[str],
    scores: Callable[[str, str], list[Tensor]],
    *,
    window: int,
    rate: float,
) -> tuple[Detector, dict[str, Any]]:
    """Calibrate on benign items that nothing was fitted on; forget FIT items set CUSUM's drift.

    Args:
        statistic: of the detector.
        forget: forget languages.
        benign: languages to leave alone.
        scores: (language, split) -> token scores of each item.
        window: of the detector.
        rate: share of benign items that may trip it.

    Returns:
        The detector, and its facts with the share of items on which it opens, by language.
    """
    detector, opens = calibrate(
        statistic,
        {language: scores(language, "fit") for language in forget},
        {language: scores(language, CALIBRATION_SPLIT) for language in benign},
        window=window,
        rate=rate,
    )
    return detector, {"detector": detector.facts(), "opens": opens}


def _tokens(activations: Path, language: str, split: str) -> tuple[Tensor, np.ndarray]:
    table = read_safetensors(activations / language / "rows.safetensors")
    items = read_parquet(activations / language / "items.parquet")
    item = table["item"].numpy()
    chosen = (items["split"] == split).to_numpy()[item]
    return table["token"][torch.from_numpy(chosen)].long(), item[chosen]


def _by_item(scores: Tensor, item: np.ndarray) -> list[Tensor]:
    """Rows are in item order, so an item is a run."""
    ends = np.flatnonzero(np.diff(item)) + 1
    return list(torch.tensor_split(scores, torch.from_numpy(ends)))
