"""A test of a family: what was measured, how sure it is, and what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

NAN = math.nan


@dataclass(frozen=True)
class Measurement:
    """A test of a family. Values are means over seeds unless `seed` names one.

    `detectable` is the smallest difference to the base that 80 % of such experiments find at 5 %, in
    the score's unit, from how much clusters scatter here. `calibration` marks arms whose verdict is
    known beforehand: their values test the measurement and are no results.

    `q`, `rejected`, `status` and `reason` are filled once the family is complete; until then
    `reason` says why nothing could be measured.
    """

    family: str
    arm: str
    gate: str
    language: str
    cell: str
    metric: str
    statistic: str
    test: str
    direction: str
    seed: str = "mean"
    arm_value: float = NAN
    base_value: float = NAN
    oracle_value: float = NAN
    difference: float = NAN
    largest_difference: float = NAN
    estimate: float = NAN
    ci_low: float = NAN
    ci_high: float = NAN
    ci_level: float = NAN
    ci_method: str = "none"
    ci_reason: str = ""
    threshold: float = NAN
    margin: float = NAN
    effect_dz: float = NAN
    detectable: float = NAN
    odds_ratio: float = NAN
    p_mcnemar: float = NAN
    p: float = NAN
    q: float = NAN
    rejected: bool = False
    status: str = "not_measured"
    n_seeds: int = 0
    n_items: int = 0
    n_dropped: int = 0
    n_clusters: int = 0
    calibration: bool = False
    reason: str = ""
