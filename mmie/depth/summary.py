"""Depth of an arm in one number a measure, read against the base and the oracle.

All are pure functions of the per-layer values of arm, base and oracle. A measure that does not tell the
oracle from the base at any layer says nothing about an arm, and is NaN with that reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

LEAST_EFFECT = 0.05
"""Smallest drop of log-probability, or of selectivity, between base and oracle at which a layer counts."""
TOLERANCE = 0.1
"""Change against the base from which an arm's selectivity counts as changed."""
COLUMNS = ("arm", "seed", "measure", "value", "base", "oracle", "calibration", "changed", "reason")


def unlearning_depth(
    base: Mapping[int, float], oracle: Mapping[int, float], arm: Mapping[int, float]
) -> float:
    """UDS = sum_l d1_l clip(d2_l / d1_l, 0, 1) / sum_l d1_l over layers with d1_l > 0.05.

    d1_l = drop of the answers' log-probability when the oracle's state at layer l is patched into the
    base, d2_l the same with the arm's. Range [0, 1], up; oracle 1, no-op 0. NaN if no layer counts.
    On `lens_log_p` instead of `patched_log_p` it is the logit-lens depth.

    Args:
        base, oracle, arm: log-probability by layer.

    Source: Lee et al. 2026 (arXiv 2605.24614).
    """
    drops = {layer: base[layer] - oracle[layer] for layer in base}
    counted = {layer: drop for layer, drop in drops.items() if drop > LEAST_EFFECT}
    if not counted or any(math.isnan(arm[layer]) for layer in counted):
        return math.nan
    reached = sum(min(drop, max(0.0, base[layer] - arm[layer])) for layer, drop in counted.items())
    return reached / sum(counted.values())


def recoverability_gap(
    base: Mapping[int, float], oracle: Mapping[int, float], arm: Mapping[int, float]
) -> float:
    """Selectivity of the probe on the arm minus on the oracle, mean over the layers that count.

    Layers where the base is at least 0.05 more selective than the oracle. Range [-2, 2], success 0,
    no-op: base - oracle. NaN if no layer counts. The raw accuracy of a probe is no evidence: it is high
    for every working model.
    """
    counted = [layer for layer in base if base[layer] - oracle[layer] > LEAST_EFFECT]
    if not counted:
        return math.nan
    return sum(arm[layer] - oracle[layer] for layer in counted) / len(counted)


def representation_changed(
    base: Mapping[int, float], arm: Mapping[int, float], *, tolerance: float = TOLERANCE
) -> bool:
    """Whether a probe reads less from the arm than from the base: selectivity falls by `tolerance` at
    some layer. An arm that does nothing has not changed, however well the probe reads it."""
    return any(base[layer] - arm[layer] >= tolerance for layer in base)


def perturbation_effect(layers: Mapping[int, float]) -> float:
    """ActPert = mean over layers of S(with noise) - S(without), S the right answers' probability.

    Range [-1, 1], down; a rise under noise means that what was hidden comes out. Read only against base
    and oracle, which fall by some amount themselves.
    """
    return sum(layers.values()) / len(layers) if layers else math.nan


def summarise(
    table: pd.DataFrame, *, base: str, oracle: str, calibration: Sequence[str] = ()
) -> pd.DataFrame:
    """One row an arm, seed and measure, from the tables of all arms.

    Args:
        table: arm, seed, layer, measure, value of every arm.
        base: name of the arm that does nothing.
        oracle: name of the arm that scores are normalised by.
        calibration: arms whose values are known by construction, besides these two: shown as checks of
            the measurement, never as results.

    Returns:
        `COLUMNS`. `base` and `oracle` are the values of these arms; `changed` is about the probe alone.
    """
    import pandas as pd

    layers = {
        (str(arm), seed, str(measure)): dict(zip(part["layer"], part["value"], strict=True))
        for (arm, seed, measure), part in table.groupby(["arm", "seed", "measure"], sort=True)
    }
    runs = sorted({(arm, seed) for arm, seed, _ in layers}, key=str)
    first = {name: next((run for run in runs if run[0] == name), None) for name in (base, oracle)}
    if first[base] is None or first[oracle] is None:
        lacking = base if first[base] is None else oracle
        return pd.DataFrame([
            {"arm": arm, "seed": seed, "measure": measure, "value": math.nan, "base": math.nan,
             "oracle": math.nan, "calibration": False, "changed": None,
             "reason": f"{lacking} was not measured"}
            for arm, seed in runs for measure in _SUMMARIES
        ], columns=list(COLUMNS))  # fmt: skip
    rows = []
    for arm, seed in runs:
        for measure, (source, function) in _SUMMARIES.items():
            known = layers[(*first[base], source)], layers[(*first[oracle], source)]  # type: ignore[misc]
            own = layers[arm, seed, source]
            value, of_base, of_oracle = (function(*known, part) for part in (own, *known))
            rows.append({
                "arm": arm, "seed": seed, "measure": measure, "value": value, "base": of_base,
                "oracle": of_oracle, "calibration": arm in (base, oracle, *calibration),
                "changed": representation_changed(known[0], own) if source == "probe_selectivity" else None,
                "reason": "base and oracle do not differ, or it is missing" if math.isnan(value) else "",
            })  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _effect_alone(base: Mapping[int, float], oracle: Mapping[int, float], arm: Mapping[int, float]) -> float:
    """`perturbation_effect` in the form of the comparisons; base and oracle stand beside it."""
    return perturbation_effect(arm)


Comparison = Callable[[Mapping[int, float], Mapping[int, float], Mapping[int, float]], float]
_SUMMARIES: dict[str, tuple[str, Comparison]] = {
    "unlearning_depth": ("patched_log_p", unlearning_depth),
    "logit_lens_depth": ("lens_log_p", unlearning_depth),
    "recoverability_gap": ("probe_selectivity", recoverability_gap),
    "perturbation_effect": ("perturbation_effect", _effect_alone),
}
