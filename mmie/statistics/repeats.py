"""Do the known verdicts survive other evaluation items? Clusters drawn again, everything repeated.

    python -m mmie.statistics.repeats results/atlas-hi

reads the rows and the settings of a finished run and prints how often every known verdict held.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmie.errors import InputError
from mmie.io import read_json, read_parquet, seed_from
from mmie.statistics.cells import Cell, attack_cells, build_cells
from mmie.statistics.gate_table import read_gates, with_margins
from mmie.statistics.gates import Roles
from mmie.statistics.judge import judge
from mmie.statistics.margins import margins_from_cells
from mmie.statistics.options import Draws, Options

PERMUTED = "permuted labels"
COLUMNS = ("repeat", "arm", "held", "decision", "codes")


def calibration_repeats(
    evaluation: pd.DataFrame,
    attacks: pd.DataFrame | None,
    roles: Roles,
    gates: Iterable[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]],
    options: Options | None = None,
    *,
    repeats: int = 20,
) -> pd.DataFrame:
    """Repeat margins, tests and verdicts on evaluation clusters drawn with replacement.

    All arms, languages and attacks share the draw of a repeat; DEV, TEST and holdout clusters are
    drawn apart, each as many as there are.

    Returns:
        One row a repeat and known arm, and one "permuted labels": repeat, arm, held, decision,
        codes. `held` is whether the verdict was the one known beforehand.
    """
    options = options or Options()
    table, roles = read_gates(gates), {role: sorted(languages) for role, languages in roles.items()}
    cells, attacked = build_cells(evaluation), attack_cells(attacks, at=options.attack_at)
    rows = []
    for repeat in range(repeats):
        own = replace(options, experiment=f"{options.experiment}, repeat {repeat}")
        times = _drawn([*cells.values(), *attacked.values()], own)
        drawn, drawn_attacks = (
            {key: redrawn(cell, times) for key, cell in part.items()} for part in (cells, attacked)
        )
        draws = Draws(own)
        margins = margins_from_cells(drawn, table, roles, own, draws)
        _, content = judge(drawn, drawn_attacks, with_margins(table, margins), roles, own, draws)
        for arm, check in content["calibration"]["checks"].items():
            verdict = content["arms"].get(arm, {"decision": "not run", "codes": []})
            rows.append((repeat, arm, check["held"], verdict["decision"], ", ".join(verdict["codes"])))
        permuted = content["calibration"]["permuted_labels"]
        most = max((entry["rate"] for entry in permuted["arms"].values()), default=float("nan"))
        rows.append((repeat, PERMUTED, permuted["held"], f"PROCEED in at most {most:.1%}", ""))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def redrawn(cell: Cell, times: Mapping[str, int]) -> Cell:
    """A cell with every cluster as often as it was drawn, each copy a cluster of its own."""
    copies = [
        (f"{cluster}#{copy}", f"{item}#{copy}", row)
        for row, (cluster, item) in enumerate(zip(cell.clusters, cell.items, strict=True))
        for copy in range(times[cluster])
    ]
    if not copies:
        raise InputError(f"{cell.language}, {cell.name}: a repeat drew none of its clusters. Evaluate more.")
    clusters, items, rows = zip(*sorted(copies), strict=True)
    scores = {arm: values[list(rows)] for arm, values in cell.scores.items()}
    return Cell(cell.language, cell.name, items, clusters, cell.metrics, scores, cell.seeds)


def _drawn(cells: Iterable[Cell], options: Options) -> Counter[str]:
    """How often each cluster is drawn, within DEV, holdout and TEST."""
    parts: dict[str, set[str]] = {"dev": set(), "holdout": set(), "test": set()}
    for cell in cells:
        part = next((name for name in ("dev", "holdout") if name in cell.name), "test")
        parts[part] |= set(cell.clusters)
    rng = np.random.default_rng(seed_from("repeat", options.experiment))
    times: Counter[str] = Counter()
    for clusters in (sorted(part) for part in parts.values() if part):
        times.update(clusters[index] for index in rng.integers(len(clusters), size=len(clusters)))
    return times


def main() -> None:
    """Print how often every known verdict of a finished run held."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    settings = read_json(arguments.results / "summary/manifest.json")["config"]
    chosen: dict[str, Any] = read_json(arguments.results / "summary/gates.json")["options"]
    chosen = {key: tuple(value) if isinstance(value, list) else value for key, value in chosen.items()}
    options = Options(**chosen)
    evaluation = [
        read_parquet(file) for file in sorted((arguments.results / "eval").glob("*/seed*/*.parquet"))
    ]
    # Beside the attacks lie tables that only the report reads.
    attacks = [
        read_parquet(file)
        for name in options.attacks
        for file in sorted((arguments.results / "attack" / name).glob("*/seed*.parquet"))
    ]
    if not evaluation:
        raise SystemExit(f"{arguments.results}/eval: no evaluation rows. Run the workflow first.")
    found = calibration_repeats(
        pd.concat(evaluation, ignore_index=True),
        pd.concat(attacks, ignore_index=True) if attacks else None,
        settings["roles"], settings["gates"],
        options,
        repeats=arguments.repeats,
    )  # fmt: skip
    for arm, own in found.groupby("arm", sort=False):
        seen = Counter(own["decision"] + own["codes"].map(lambda codes: f" for {codes}" if codes else ""))
        print(f"{arm}: held in {int(own['held'].sum())} of {len(own)}")
        for verdict, count in seen.most_common():
            print(f"    {count:3d} x {verdict}")
    raise SystemExit(0 if found["held"].all() else 1)


if __name__ == "__main__":
    main()
