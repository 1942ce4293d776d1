"""Wall time and peak memory of every stage of a run, from Snakemake's own benchmark files.

    python bench/stages.py results/atlas-hi

Jobs of one stage run side by side, so the sum of their wall times is core time, not waiting time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmie.report.costs import stage_costs


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
