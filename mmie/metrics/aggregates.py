"""Numbers made of numbers: utility, damage and one legacy composite.

Pure functions over means that were measured elsewhere. A component that is missing (NaN) makes the
aggregate NaN: a mean over what happens to be there would hide what broke.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mmie.errors import InputError


def harmonic_mean(values: Sequence[float]) -> float:
    """n / sum(1/x): 0 as soon as one value is 0, NaN with a NaN or without values.

    Raises:
        InputError: a negative value.
    """
    if any(value < 0 for value in values):
        raise InputError(f"harmonic mean: {min(values)} is negative. Give shares in [0, 1].")
    if not values or any(math.isnan(value) for value in values):
        return math.nan
    if min(values) == 0:
        return 0.0
    return len(values) / sum(1.0 / value for value in values)


MODEL_UTILITY_PARTS = tuple(
    f"{score}_{data}"
    for score in ("probability", "rouge_recall", "truth_ratio")
    for data in ("retain", "real_authors", "world_facts")
)


def model_utility(parts: Mapping[str, float]) -> float:
    """MU = harmonic mean of probability, ROUGE-L recall and max(0, 1 - R) on three kept sets.

    Range [0, 1], hold; TOFU's retain models 0.59 to 0.61. Per-set values are to be printed beside it: a
    mean hides the set that broke.

    Args:
        parts: all nine of `MODEL_UTILITY_PARTS`.

    Raises:
        InputError: a part is missing or unknown.

    Source: Maini et al. 2024 (arXiv 2401.06121).
    """
    if set(parts) != set(MODEL_UTILITY_PARTS):
        odd = sorted(set(parts) ^ set(MODEL_UTILITY_PARTS))
        raise InputError(f"model utility: {', '.join(odd)} missing or unknown. Give all nine parts.")
    return harmonic_mean([parts[name] for name in MODEL_UTILITY_PARTS])


def relative_score(arm: float, base: float) -> float:
    """S(arm) / S(base), NaN where the base scores 0. 1 for an arm that does nothing."""
    return arm / base if base else math.nan


def utility_score(arm: Mapping[str, float], base: Mapping[str, float]) -> float:
    """s_util = harmonic mean over languages of min(1, S(arm) / S(base)). Range [0, 1], up; no-op 1.

    Args:
        arm: a score (up is good) on each kept language.
        base: the same of the base, same languages.
    """
    _same(arm, base)
    return harmonic_mean([_capped(relative_score(arm[key], base[key])) for key in sorted(base)])


def language_score(arm_lpr: Mapping[str, float], base_lpr: Mapping[str, float]) -> float:
    """s_lang = minimum over languages of min(1, LPR(arm) / LPR(base)). Range [0, 1], up; no-op 1."""
    _same(arm_lpr, base_lpr)
    return _minimum([_capped(relative_score(arm_lpr[key], base_lpr[key])) for key in base_lpr])


def neighbour_damage(arm: float, base: float) -> float:
    """1 - S(arm) / S(base) in one neighbour language: at most 1, below 0 a gain, down; no-op 0.

    Whether the neighbour still works; whether it is answered in the forget language is another question
    (`line_pass`, `other_language`).
    """
    return 1.0 - relative_score(arm, base)


def bits_per_byte_delta(arm: float, base: float) -> float:
    """BPB(arm) - BPB(base), bit/byte: success 0, above it harm; no-op 0."""
    return arm - base


def memory_score(transfer: float) -> float:
    """s_mem = clip(T[u, u], 0, 1): 1 for the oracle, 0 for an arm that does nothing."""
    return min(1.0, max(0.0, transfer)) if not math.isnan(transfer) else math.nan


def robustness_score(transfer_under_attack: Mapping[str, float]) -> float:
    """s_rob = minimum over attacks of clip(T_a[u, u], 0, 1). Range [0, 1], up; oracle 1, no-op 0."""
    return _minimum([memory_score(value) for value in transfer_under_attack.values()])


def privacy_score(auc_arm: float, auc_oracle: float, auc_base: float) -> float:
    """s_priv = clip(1 - |AUC_u - AUC_o| / |AUC_0 - AUC_o|, 0, 1): oracle 1, no-op 0.

    NaN where base and oracle are alike: nothing to recognise, nothing to hide.
    """
    if auc_base == auc_oracle:
        return math.nan
    return memory_score(1.0 - abs(auc_arm - auc_oracle) / abs(auc_base - auc_oracle))


def score_v1(
    memory: float, utility: float, language: float, robustness: float, privacy: float | None = None
) -> float:
    """Score_v1 = harmonic mean of s_mem, s_util, s_lang, s_rob and, with an oracle, s_priv.

    Range [0, 1], up; oracle 1, no-op 0. The components and their minimum are to be printed beside it,
    and an arm that `collapsed` is not ranked.
    """
    parts = [memory, utility, language, robustness]
    return harmonic_mean(parts if privacy is None else [*parts, privacy])


def collapsed(utility: float, gibberish: float, base_gibberish: float) -> bool:
    """Whether an arm is too broken to be ranked: s_util < 0.8, or gibberish 5 points above the base."""
    return utility < 0.8 or gibberish > base_gibberish + 0.05


def legacy_memorisation(
    extraction: float, exact: float, paraphrase_probability: float, preference: float
) -> float:
    """Mem = harmonic mean of 1 - ES, 1 - EM, 1 - paraphrase P, 1 - 1/(1+R). Range [0, 1], up on forget.

    The retain oracle reaches about 0.58, not 1: it guesses. Source: Dorna et al. 2025 (arXiv 2506.12618).
    """
    return harmonic_mean([1.0 - value for value in (extraction, exact, paraphrase_probability, preference)])


def relearning_agreement(arm_change: float, oracle_change: float) -> float:
    """1 - clip(|d_u - d_o| / (|d_u| + |d_o|), 0, 1), d a score's change after one epoch of relearning.

    Symmetric form: 1 if the arm relearns as the oracle learns; 1 where nothing changes. Range [0, 1], up.
    Source: Lee et al. 2026 (arXiv 2605.24614), its published data; its script documents min(d_o/d_u, 1).
    """
    return _agreement(arm_change, oracle_change)


def quantisation_agreement(before: float, after: float) -> float:
    """1 - clip(|m_after - m_before| / (|m_before| + |m_after|), 0, 1), m a score before and after.

    Symmetric form: 1 if quantising changes nothing, 0 if a score of 0 comes back. Range [0, 1], up.
    Source: as `relearning_agreement`; its script documents min(m_after/m_before, 1).
    """
    return _agreement(before, after)


def _agreement(first: float, second: float) -> float:
    if math.isnan(first) or math.isnan(second):
        return math.nan
    size = abs(first) + abs(second)
    return 1.0 - min(1.0, abs(first - second) / size) if size else 1.0 - abs(first - second)


def _same(arm: Mapping[str, float], base: Mapping[str, float]) -> None:
    if set(arm) != set(base):
        raise InputError(
            f"utility: arm and base have different languages ({sorted(set(arm) ^ set(base))}). "
            "Evaluate both in the same ones."
        )


def _capped(value: float) -> float:
    return value if math.isnan(value) else min(1.0, value)


def _minimum(values: Sequence[float]) -> float:
    return math.nan if not values or any(math.isnan(value) for value in values) else min(values)
