"""Scores by which latents are picked: one column a picker, the larger the better, 0 or less is no pick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmie.errors import InputError
from mmie.sae.autoencoder import SparseAutoencoder
from mmie.sae.features import contrast_table, pick_random_matched
from mmie.sae.item_statistics import LatentStatistics

PICKERS = {
    "contrast": "mean code on forget items minus mean code on retain items, over the deviation of items",
    "script_invariant": "smallest mean code over the forget language's scripts, minus the largest over "
    "retain languages and gibberish in those scripts",
    "attribution": "code x gradient of the answer's loss: predicted rise of the loss when the latent is "
    "removed, on forget items minus on retain items (arXiv 2403.19647)",
    "specificity": "nu: mean code on forget items minus the mean over retain languages of theirs "
    "(arXiv 2505.05111)",
    "dsg_ratio": "mean squared code on forget items, of latents whose ratio to that on retain items is "
    "in the top twentieth (arXiv 2504.08192)",
    "dsg_squared_mean": "the same with the square of the mean code for the mean squared code, as in the "
    "code that was released with the paper",
    "random": "latents matched to those of `contrast` in firing rates and decoder norm: the control",
}
RATIO_PERCENTILE = 95.0
"""Latents below this percentile of the ratio are no picks of `dsg_ratio` and `dsg_squared_mean`."""


def score_table(
    sae: SparseAutoencoder,
    statistics: Mapping[str, LatentStatistics],
    *,
    forget: Sequence[str],
    retain: Sequence[str],
    gibberish: Mapping[str, LatentStatistics] | None = None,
    attribution: NDArray[np.float64] | None = None,
) -> pd.DataFrame:
    """One row a latent: `contrast_table`, whose `score` is that of `contrast`, and other pickers' columns.

    A picker that the data do not allow has no column.

    Args:
        sae: the autoencoder.
        statistics: by written form of a language.
        forget: written forms of the forget language.
        retain: languages that must not be touched.
        gibberish: statistics on shuffled text of each forget form; with two or more forms it gives
            `script_invariant`.
        attribution: scores of `mmie.sae.attribution`, [latents].
    """
    table = contrast_table(sae, statistics, forget=forget, retain=retain)
    table["specificity"] = specificity(statistics, forget=forget, retain=retain)
    table["dsg_ratio"] = dsg_ratio(statistics, forget=forget, retain=retain)
    table["dsg_squared_mean"] = dsg_squared_mean(statistics, forget=forget, retain=retain)
    if gibberish is not None and len(forget) > 1:
        table["script_invariant"] = script_invariant(statistics, gibberish, forget=forget, retain=retain)
    if attribution is not None:
        table["attribution"] = attribution
    return table


def specificity(
    statistics: Mapping[str, LatentStatistics], *, forget: Sequence[str], retain: Sequence[str]
) -> NDArray[np.float64]:
    """nu_j = mean code on forget items - mean over retain languages of their mean code, [latents]."""
    means = _means(statistics, [*forget, *retain])
    gain: NDArray[np.float64] = np.mean([means[form] for form in forget], axis=0)
    return gain - np.mean([means[language] for language in retain], axis=0)


def dsg_ratio(
    statistics: Mapping[str, LatentStatistics],
    *,
    forget: Sequence[str],
    retain: Sequence[str],
    percentile: float = RATIO_PERCENTILE,
) -> NDArray[np.float64]:
    """Mean squared code on forget items where its ratio to retain items is high enough, else 0.

    The form of the paper, mean_t f^2; that of its released code is `dsg_squared_mean`. The percentile is
    taken over latents that fire on forget items.

    Returns:
        [latents].

    Source: Muhamed et al. 2025 (arXiv 2504.08192).
    """
    on_forget = np.mean([statistics[form].power for form in forget], axis=0)
    on_retain = np.mean([statistics[language].power for language in retain], axis=0)
    return _of_high_ratio(on_forget, on_retain, percentile)


def dsg_squared_mean(
    statistics: Mapping[str, LatentStatistics],
    *,
    forget: Sequence[str],
    retain: Sequence[str],
    percentile: float = RATIO_PERCENTILE,
) -> NDArray[np.float64]:
    """As `dsg_ratio` with (mean_t f)^2, which prefers latents that fire often to those that fire strongly.

    Languages weigh equally in the mean that is squared.

    Returns:
        [latents].

    Source: the code released with Muhamed et al. 2025 (arXiv 2504.08192).
    """
    means = _means(statistics, [*forget, *retain])
    on_forget, on_retain = (
        np.square(np.mean([means[language] for language in group], axis=0)) for group in (forget, retain)
    )
    return _of_high_ratio(on_forget, on_retain, percentile)


def _of_high_ratio(
    on_forget: NDArray[np.float64], on_retain: NDArray[np.float64], percentile: float
) -> NDArray[np.float64]:
    """`on_forget` where its ratio to `on_retain` reaches the percentile of latents that fire, else 0."""
    fires = on_forget > 0
    ratio = np.zeros_like(on_forget)
    # A latent that never fires elsewhere has a ratio beyond all others, infinite or not.
    with np.errstate(over="ignore"):
        ratio[fires] = on_forget[fires] / np.maximum(on_retain[fires], np.finfo(np.float64).tiny)
    if not fires.any():
        return ratio
    limit = np.percentile(ratio[fires], percentile, method="lower")
    kept: NDArray[np.float64] = np.where(fires & (ratio >= limit), on_forget, 0.0)
    return kept


def script_invariant(
    statistics: Mapping[str, LatentStatistics],
    gibberish: Mapping[str, LatentStatistics],
    *,
    forget: Sequence[str],
    retain: Sequence[str],
) -> NDArray[np.float64]:
    """Smallest mean code over the forget forms - largest over retain languages and gibberish, [latents].

    Positive only for latents that fire in every script of the language more than in any other language
    and more than on text that has its letters but no words.

    Raises:
        InputError: fewer than two forms, no retain language, no gibberish for a form, or two forms with
            the same codes (a transliteration that changed nothing).
    """
    if len(forget) < 2 or not retain:
        raise InputError(
            f"features: script_invariant needs the forget language in two scripts and a retain language, "
            f"not {', '.join(forget)} against {', '.join(retain) or 'nothing'}. Use another picker."
        )
    missing = [form for form in forget if form not in gibberish]
    if missing:
        raise InputError(f"features: no gibberish for {', '.join(missing)}. Measure it first.")
    for one, other in combinations(forget, 2):
        if _same_text(statistics[one], statistics[other]):
            raise InputError(
                f"features: {one} and {other} have the same activations, so they are the same text. "
                "Give the language in real text of both scripts."
            )
    means = _means(statistics, [*forget, *retain])
    noise = _means(gibberish, forget)
    lowest: NDArray[np.float64] = np.min([means[form] for form in forget], axis=0)
    others = [*(means[language] for language in retain), *(noise[form] for form in forget)]
    return lowest - np.max(others, axis=0)


def choose_latents(table: pd.DataFrame, picker: str, count: int, *, layer: int, seed: int = 0) -> list[int]:
    """The `count` latents with the largest positive score, ties to the lower index; or a matched draw.

    Args:
        table: `score_table` of one layer.
        picker: a name of `PICKERS`; `random` is matched to the picks of `contrast`.
        count: how many.
        layer: for messages and the draw.
        seed: of the draw.

    Raises:
        InputError: unknown picker, one that this data did not allow, or too few positive scores.
    """
    if picker not in PICKERS:
        raise InputError(f"picker: {picker!r} is none of {', '.join(PICKERS)}.")
    column = "score" if picker in ("contrast", "random") else picker
    if column not in table:
        raise InputError(
            f"picker: {picker} was not measured for this data (script_invariant needs the forget language "
            "in two scripts). Use another picker."
        )
    ordered = table.sort_values([column, "latent"], ascending=[False, True])
    best = ordered.loc[ordered[column] > 0, "latent"].head(count).astype(int).tolist()
    if len(best) < count:
        raise InputError(
            f"picker {picker}: {len(best)} latents of layer {layer} score above 0, {count} are wanted. "
            "Lower `features` or train a larger autoencoder."
        )
    if picker != "random":
        return [int(latent) for latent in best]
    return random_matched(table, best, layer=layer, seed=seed)


def random_matched(table: pd.DataFrame, features: Sequence[int], *, layer: int, seed: int) -> list[int]:
    """Latents matched one by one to `features` in firing rates and decoder norm; see `features`."""
    by_latent = table.set_index("latent", drop=False).sort_index()
    drawn: list[int] = pick_random_matched(by_latent, features, layer=layer, seed=seed)["features"]
    return drawn


def _means(
    statistics: Mapping[str, LatentStatistics], languages: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    return {language: statistics[language].mean for language in languages}


def _same_text(one: LatentStatistics, other: LatentStatistics) -> bool:
    """Whether no latent tells the items of one from those of the other, to the last bit."""
    return all(
        np.array_equal(getattr(one, measure), getattr(other, measure))
        for measure in ("mean", "rate", "power")
    )
