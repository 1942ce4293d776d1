"""The power of every forget cell and the planned comparisons between arms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from mmie.statistics.cells import Cell, Cells
from mmie.statistics.effects import paired_dz, sample_sd
from mmie.statistics.gate_table import Gate
from mmie.statistics.gates import Roles, not_applicable
from mmie.statistics.intervals import bca_interval
from mmie.statistics.measurement import Measurement
from mmie.statistics.multiplicity import benjamini_hochberg
from mmie.statistics.options import Draws, Options
from mmie.statistics.permutation import sign_flip
from mmie.statistics.power import intra_cluster_correlation, power_statement


def power_table(
    tests: Sequence[Measurement],
    table: Sequence[Gate],
    cells: Cells,
    roles: Roles,
    options: Options,
) -> pd.DataFrame:
    """Power of every efficacy cell, from the difference between oracle and base."""
    families_of = {test.family for test in tests}
    declared = sum(test.family == "efficacy" for test in tests) if "efficacy" in families_of else 1
    rows = []
    for gate in table:
        if gate.family != "efficacy" or not_applicable(gate, roles):
            continue
        for language in roles[gate.languages]:
            cell = cells.get((language, gate.cell))
            if cell is None or gate.metric not in cell.metrics:
                continue
            sd, correlation = _spread(cell, gate.metric, options)
            statement = power_statement(
                cell.n_clusters, len(cell.items) / cell.n_clusters,
                declared=declared, correlation=options.correlation, alpha=options.alpha,
            )  # fmt: skip
            rows.append({
                "gate": gate.name, "language": language, **asdict(statement),
                "estimated_correlation": correlation, "sd": sd,
                "detectable_in_points": statement.detectable * sd,
            })  # fmt: skip
    return pd.DataFrame(rows)


def _spread(cell: Cell, metric: str, options: Options) -> tuple[float, float]:
    if options.reference not in cell.scores:
        return math.nan, math.nan
    valid = cell.measured([options.base, options.reference], metric)
    difference = (
        cell.column(options.reference, metric).mean(axis=(1, 2))
        - cell.column(options.base, metric).mean(axis=(1, 2))
    )[valid]
    _, codes = np.unique(np.asarray(cell.clusters)[valid], return_inverse=True)
    return sample_sd(difference), intra_cluster_correlation(difference, codes)


def contrasts_table(
    table: Sequence[Gate],
    cells: Cells,
    arms: Sequence[str],
    roles: Roles,
    options: Options,
    draws: Draws,
) -> pd.DataFrame:
    """Planned paired comparisons between arms under study, a family of their own.

    There is no winner without one: two arms are compared on the same items, per efficacy cell.
    """
    studied = [arm for arm in arms if arm not in options.calibration]
    rows = []
    for gate in table:
        if gate.family != "efficacy" or gate.of_attack or not_applicable(gate, roles):
            continue
        for language in roles[gate.languages]:
            cell = cells.get((language, gate.cell))
            if cell is None or gate.metric not in cell.metrics:
                continue
            valid = cell.measured(studied, gate.metric)
            if (~valid).sum() > options.max_dropped * len(valid):
                continue
            resampling = draws.of(cell)
            scores = {arm: cell.column(arm, gate.metric) for arm in studied}
            means = {arm: draws.means(cell, arm, gate.metric, valid) for arm in studied}
            for index, left in enumerate(studied):
                for right in studied[index + 1 :]:
                    difference = means[left] - means[right]
                    interval = bca_interval(difference, options.alpha)
                    items = scores[left].mean(axis=(1, 2)) - scores[right].mean(axis=(1, 2))
                    clusters = resampling.cluster_means(items, valid)
                    rows.append({
                        "gate": gate.name, "language": language, "metric": gate.metric,
                        "arm": left, "other": right, "estimate": float(difference.point[0]),
                        "ci_low": interval.low, "ci_high": interval.high,
                        "effect_dz": paired_dz(clusters),
                        "p": sign_flip(
                            clusters,
                            names=(options.experiment, "contrast", gate.metric, language, gate.cell),
                        ),
                    })  # fmt: skip
    columns = ["gate", "language", "metric", "arm", "other", "estimate", "ci_low", "ci_high",
               "effect_dz", "p"]  # fmt: skip
    contrasts = pd.DataFrame(rows, columns=columns)
    contrasts["q"] = benjamini_hochberg(contrasts["p"].to_numpy(dtype=float))
    return contrasts
