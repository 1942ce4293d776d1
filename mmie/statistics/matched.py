"""Arms compared at equal strength: which pairs moved the kept languages equally far from the base."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from mmie.statistics.cells import Cells
from mmie.statistics.gates import Roles
from mmie.statistics.options import Options

METRIC, CELL = "kl_from_base", "test"


def divergences(cells: Cells, roles: Roles) -> dict[str, float]:
    """By arm: mean KL from the base on direct prompts of the kept languages, nats a token.

    The mean of the languages' means over items and seeds; NaN for an arm without a value in some language.
    """
    parts: dict[str, list[float]] = {}
    for language in sorted(roles.get("kept", [])):
        cell = cells.get((language, CELL))
        if cell is None or METRIC not in cell.metrics:
            continue
        for arm in cell.scores:
            known = cell.column(arm, METRIC)
            known = known[np.isfinite(known)]
            parts.setdefault(arm, []).append(float(known.mean()) if known.size else math.nan)
    most = max(map(len, parts.values()), default=0)
    return {arm: float(np.mean(values)) if len(values) == most else math.nan for arm, values in parts.items()}


def with_divergences(contrasts: pd.DataFrame, cells: Cells, roles: Roles, options: Options) -> pd.DataFrame:
    """Add the divergence of both arms, and whether the comparison is one at equal divergence.

    An arm that forgets more and damages more is not better than one that does less of both. Two arms are
    matched if the larger divergence is at most `options.matched_divergence` times the smaller one.

    Args:
        contrasts: of `mmie.statistics.design.contrasts_table`.
        cells: TEST scores.
        roles: of "kept" languages.
        options: of the analysis.

    Returns:
        The same rows with columns `divergence`, `divergence_other` (nats a token) and `matched`.
    """
    known = divergences(cells, roles)
    left = contrasts["arm"].map(lambda arm: known.get(arm, math.nan)).astype(float)
    right = contrasts["other"].map(lambda arm: known.get(arm, math.nan)).astype(float)
    # Two arms that did not move at all are equal too; NaN compares as False.
    matched = np.maximum(left, right) <= options.matched_divergence * np.minimum(left, right)
    return contrasts.assign(divergence=left, divergence_other=right, matched=matched.astype(bool))
