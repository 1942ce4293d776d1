"""Choose among the trials of a sweep by their DEV rows, and say how all of them did."""

from pathlib import Path

import pandas as pd

from mmie import job
from mmie.io import read_parquet, write_json, write_parquet
from mmie.sweep.choice import check_grid_acts, choose, dev_rows, score_trial

job.start(snakemake)
given, params = snakemake.input, snakemake.params


def measured(files):
    """DEV rows of an arm in every language; None without files."""
    return dev_rows(pd.concat([read_parquet(file) for file in files])) if files else None


base, oracle = measured(given.base), measured(given.get("oracle"))
tables = {Path(file).stem: dev_rows(read_parquet(file)) for file in given.trials}
acts = check_grid_acts(tables, {name: params.trials[name]["changes"] for name in tables})
rows = []
for name, measured_rows in tables.items():
    trial = params.trials[name]
    score = score_trial(measured_rows, base, oracle, params.roles, params.gates)
    rows.append({"trial": name, "number": trial["number"], **trial["changes"], **score})
table = pd.DataFrame(rows).sort_values("number", ignore_index=True)
choice = choose(table, threshold=params.threshold)
write_parquet(snakemake.output.table, table)
changes = params.trials[choice["chosen"]]["changes"] if choice["chosen"] else {}
write_json(
    snakemake.output.chosen, {"arm": snakemake.wildcards.arm, **choice, "changes": changes, "acts": acts}
)
