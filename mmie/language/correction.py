"""What measured errors of language identification do to a rate, and whether they are small enough.

A share of answers "in Hindi" is a share of verdicts. The identifier's confusion matrix, counted on labelled
texts, says how verdicts arise from true languages, so the true shares can be estimated from the raw ones.
Both are shown, never the corrected one alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmie.errors import InputError
from mmie.language.latin import MIXED_LANGUAGES
from mmie.language.votes import ABSTAIN

if TYPE_CHECKING:
    import pandas as pd

_STEPS = 5000
_TOLERANCE = 1e-12
_NORMAL_95 = 1.959963984540054


def confusion_matrix(confusion: pd.DataFrame) -> pd.DataFrame:
    """Counts by true language and script (rows) and verdict (columns); abstention is the last column.

    A text that was left open because it mixes languages counts as an abstention.

    Args:
        confusion: columns language, script, verdict, n, as `mmie.language.measurement.measure` gives.
    """
    confusion = confusion.assign(verdict=confusion["verdict"].replace(MIXED_LANGUAGES, ABSTAIN))
    table = confusion.pivot_table(
        index=["language", "script"], columns="verdict", values="n", aggfunc="sum", fill_value=0
    ).astype(int)
    verdicts = [*sorted(set(table.columns) - {ABSTAIN}), ABSTAIN]
    return table.reindex(columns=verdicts, fill_value=0)


def corrected_rate(raw: float, sensitivity: float, false_positive_rate: float) -> float:
    """True rate of a language from the rate of its verdicts.

    (raw - f) / (s - f), clipped to [0, 1]; s is the share of its texts that are given it, f the share of
    other texts that are. Abstentions count as "not given".

    Returns:
        Fraction in [0, 1]; NaN if s <= f, because then verdicts say nothing about the language.

    Source: Rogan and Gladen 1978; "adjusted count" of Forman 2008.
    """
    if not sensitivity > false_positive_rate:  # NaN too
        return math.nan
    return min(max((raw - false_positive_rate) / (sensitivity - false_positive_rate), 0.0), 1.0)


def corrected_shares(verdicts: Mapping[str, float], confusion: pd.DataFrame) -> dict[str, float]:
    """True shares of languages from counts of verdicts: the mixture that makes these counts most likely.

    Args:
        verdicts: verdict (`und` included) -> number of texts.
        confusion: counts, one row a true language, one column a verdict, `und` included.

    Returns:
        Share of each row of `confusion`, summing to 1. Languages that were not measured cannot appear.

    Raises:
        InputError: no texts, a language without measured texts, or a verdict that no measured text got.

    Source: maximum likelihood of a mixture with known components by expectation maximisation; Saerens,
    Latinne and Decaestecker 2002 for the use on class shares.
    """
    counts = np.array([float(verdicts.get(name, 0.0)) for name in confusion.columns])
    unknown = sorted(name for name, n in verdicts.items() if n > 0 and name not in confusion.columns)
    totals = confusion.to_numpy().sum(1)
    if counts.sum() == 0 and not unknown:
        raise InputError("language correction: no verdicts to correct.")
    if unknown or (totals == 0).any():
        missing = unknown[0] if unknown else confusion.index[int(np.argmin(totals))]
        raise InputError(
            f"language correction: {missing!r} is not in the measured confusion matrix. Measure with texts "
            "of every language that can occur."
        )
    shares = _mixture(counts / counts.sum(), confusion.to_numpy() / totals[:, None])
    return {str(name): float(share) for name, share in zip(confusion.index, shares, strict=True)}


def _mixture(observed: NDArray[np.float64], components: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = np.full(len(components), 1.0 / len(components))
    for _ in range(_STEPS):
        expected = shares @ components
        # A verdict that no language produces at this point keeps its share with whoever can give it.
        ratio = np.divide(observed, expected, out=np.zeros_like(observed), where=expected > 0)
        updated = shares * (components @ ratio)
        updated /= updated.sum()
        if np.abs(updated - shares).max() < _TOLERANCE:
            return updated
        shares = updated
    return shares


@dataclass(frozen=True)
class Reliability:
    """How far verdicts of one language and script can be trusted.

    n: texts measured. right, wrong, abstained: their shares; they sum to 1. lowest_right: lower end of the
    95 % Wilson interval of right among the texts that got a verdict. false_positives: share of texts of
    other languages that were given this one. passes and reason: the gate.
    """

    language: str
    script: str
    n: int
    right: float
    wrong: float
    abstained: float
    lowest_right: float
    false_positives: float
    passes: bool
    reason: str


def reliability(
    confusion: pd.DataFrame,
    *,
    least_accuracy: float = 0.9,
    largest_abstention: float = 0.5,
    least_texts: int = 30,
) -> list[Reliability]:
    """The gate on language identification, one result for each language and script.

    A language passes if at least `least_texts` texts were measured, the lower end of the interval of its
    accuracy among verdicts reaches `least_accuracy`, and no more than `largest_abstention` of its texts
    were left open. A score that rests on a language that fails is not to be trusted in either direction.

    Args:
        confusion: columns language, script, verdict, n.
    """
    matrix = confusion_matrix(confusion)
    results = []
    for language, script in matrix.index:
        own = matrix.loc[(language, script)]
        n, abstained = int(own.sum()), int(own.get(ABSTAIN, 0))
        right = int(own.get(language, 0))
        others = matrix.drop(index=(language, script))
        given = int(others[language].sum()) if language in matrix.columns else 0
        lowest = wilson_low(right, n - abstained)
        reason = _failure(n, abstained / n, lowest, least_accuracy, largest_abstention, least_texts)
        total = int(others.to_numpy().sum())
        results.append(
            Reliability(
                language,
                script,
                n,
                right / n,
                (n - right - abstained) / n,
                abstained / n,
                lowest,
                given / total if total else math.nan,
                not reason,
                reason,
            )
        )
    return results


def require_reliable(results: Sequence[Reliability]) -> None:
    """Stop a stage whose scores would rest on an identifier that fails its gate.

    Raises:
        InputError: names every language that fails, with the reason.
    """
    failed = [f"{item.language} ({item.script}): {item.reason}" for item in results if not item.passes]
    if failed:
        raise InputError(
            f"language identification is not reliable enough: {'; '.join(failed)}. Use another model "
            "(language.fasttext_model), or leave the language out."
        )


def wilson_low(hits: int, n: int) -> float:
    """Lower end of the 95 % Wilson score interval of hits / n; NaN for n = 0."""
    if n == 0:
        return math.nan
    rate, square = hits / n, _NORMAL_95**2
    centre = rate + square / (2 * n)
    spread = _NORMAL_95 * math.sqrt(rate * (1 - rate) / n + square / (4 * n * n))
    return max((centre - spread) / (1 + square / n), 0.0)


def abstention(rows: pd.DataFrame) -> pd.DataFrame:
    """How often no language could be named, for each arm, query language and script.

    Args:
        rows: evaluation rows: arm, language, script, target_language (NaN where undetermined).

    Returns:
        Columns arm, language, script, n, abstained (share). Every average of a score that rests on the
        language of answers is shown with the share of its cell.
    """
    keys = ["arm", "language", "script"]
    grouped = rows.assign(abstained=rows["target_language"].isna()).groupby(keys, sort=True)["abstained"]
    return grouped.agg(n="size", abstained="mean").reset_index()


def _failure(
    n: int,
    abstained: float,
    lowest: float,
    least_accuracy: float,
    largest_abstention: float,
    least_texts: int,
) -> str:
    if n < least_texts:
        return f"measured on {n} texts, fewer than {least_texts}"
    if abstained > largest_abstention:
        return f"no verdict on {abstained:.0%} of texts, more than {largest_abstention:.0%}"
    if not lowest >= least_accuracy:
        return f"accuracy may be as low as {lowest:.3f}, under {least_accuracy:g}"
    return ""
