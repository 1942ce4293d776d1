"""Choose among the trials of a sweep by their DEV rows, and say how all of them did."""

from pathlib import Path

import pandas as pd

from mmie import job
from mmie.io import read_parquet, write_json, write_parquet
from mmie.sweep.choice import choose, dev_rows, score_trial

job.start(snakemake)
given, params = snakemake.input, snakemake.params


def measured(files):
    """DEV rows of an arm in every language; None without files."""
    return dev_rows(pd.concat([read_parquet(file) for file in files])) if files else None


base, oracle = measured(given.base), measured(given.get("oracle"))
rows = []
for file in given.trials:
    trial = params.trials[Path(file).stem]
    score = score_trial(dev_rows(read_parquet(file)), base, oracle, params.roles, params.gates)
    rows.append({"trial": Path(file).stem, "number": trial["number"], **trial["changes"], **score})
table = pd.DataFrame(rows).sort_values("number", ignore_index=True)
choice = choose(table, threshold=params.threshold)
write_parquet(snakemake.output.table, table)
changes = params.trials[choice["chosen"]]["changes"] if choice["chosen"] else {}
write_json(snakemake.output.chosen, {"arm": snakemake.wildcards.arm, **choice, "changes": changes})
