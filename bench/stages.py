"""Wall time and peak memory of every stage of a run, from Snakemake's own benchmark files.

    python bench/stages.py results/atlas-hi

Jobs of one stage run side by side, so the sum of their wall times is core time, not waiting time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd


def stage_costs(results: Path) -> pd.DataFrame:
    """One row a stage: jobs, summed and longest wall time in s, CPU time in s, peak memory in MiB."""
    folder = results / "benchmarks"
    files = sorted(folder.rglob("*.tsv"))
    if not files:
        raise SystemExit(f"{folder}: no benchmark files. Run the workflow first.")
    frames = []
    for file in files:
        frame = pd.read_csv(file, sep="\t", na_values="-")
        # Jobs without wildcards lie directly in the folder, the others in one named like the stage.
        stage = file.relative_to(folder).parts[0].removesuffix(".tsv")
        frames.append(frame.assign(stage=stage))
    table = pd.concat(frames)
    grouped = table.groupby("stage")
    costs = pd.DataFrame(
        {
            "jobs": grouped.size(),
            "wall_sum_s": grouped["s"].sum(),
            "wall_median_s": grouped["s"].median(),
            "wall_max_s": grouped["s"].max(),
            "cpu_sum_s": grouped["cpu_time"].sum(),
            "peak_memory_mib": grouped["max_rss"].max(),
        }
    )
    return costs.sort_values("wall_sum_s", ascending=False)


def main() -> None:
    """Print the table and its totals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=Path("results/atlas-hi"))
    costs = stage_costs(parser.parse_args().results)
    print(costs.round(1).to_string())
    print(
        f"\n{int(costs['jobs'].sum())} jobs, {costs['wall_sum_s'].sum():.0f} s of job time, "
        f"largest job {costs['peak_memory_mib'].max():.0f} MiB"
    )


if __name__ == "__main__":
    main()
