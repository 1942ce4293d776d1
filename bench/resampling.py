"""Speed of the analysis on the shapes of an experiment, beside its peers in the same run.

    OMP_NUM_THREADS=1 python bench/resampling.py results/atlas-hi
    OMP_NUM_THREADS=1 python bench/resampling.py --synthetic

Prints the median core time of the whole analysis with 10,000 resamples, of the intervals alone, and of one
interval by MMIE, SciPy and pingouin on the same numbers, from which the time of a loop over all of them
follows. The limit is what the arithmetic alone would take at the rate that this machine reaches in a
plain matrix product, measured beside it. All times are core time: use one thread.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from mmie.configuration import DEFAULT_FILE, read_configuration
from mmie.io import read_parquet
from mmie.statistics.aggregate import aggregate
from mmie.statistics.bootstrap import Resampled
from mmie.statistics.cells import Cell, Cells, build_cells
from mmie.statistics.intervals import bca_interval, bca_intervals
from mmie.statistics.levels import levels
from mmie.statistics.options import Draws, Options

SCORES = (
    "leak", "correct", "gibberish", "answer_probability", "bits_per_byte", "nll_sum", "chrf",
    "exact_memorisation", "extraction_strength", "lid_onset", "script_share", "target_language",
)  # fmt: skip
LANGUAGES = ("hi", "hi_Latn", "en", "bn", "ur", "pa")
RUNS = {"base": 1, "oracle": 1, "oracle_reference": 1, "broken": 1, "lora-npo": 3, "reft-npo": 3,
        "sae-gate": 1, "sae-random": 3}  # fmt: skip
KINDS = (("dev", "direct", 200, 52), ("dev", "direct", 121, 56), ("test", "direct", 200, 72),
         ("test", "direct", 138, 79), ("holdout", "direct", 174, 33), ("holdout", "direct", 58, 33),
         ("test", "mixed", 200, 75), ("test", "adversarial", 200, 75))  # fmt: skip


def read_rows(results: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Evaluation and attack rows of a finished run."""
    tables = [
        [read_parquet(file) for file in sorted(results.glob(pattern))]
        for pattern in ("eval/*/seed*/*.parquet", "attack/*/*/seed*.parquet")
    ]
    if not tables[0]:
        raise SystemExit(f"{results}/eval: no rows. Run the workflow first, or give --synthetic.")
    joined = [pd.concat(part, ignore_index=True) if part else None for part in tables]
    assert joined[0] is not None
    return joined[0], joined[1]


def synthetic_rows() -> pd.DataFrame:
    """Random scores in the shape of the default experiment."""
    rng, frames = np.random.default_rng(0), []
    for language in LANGUAGES:
        for place, (split, kind, items, clusters) in enumerate(KINDS):
            group = [f"{split}{place // 2}.{i % clusters:03d}" for i in range(items)]
            wording = "held_out" if kind == "direct" and place % 2 else "trained"
            for arm, seeds in RUNS.items():
                for seed in range(seeds):
                    scores = {name: rng.random(items).round() for name in SCORES}
                    frames.append(pd.DataFrame({
                        "arm": arm, "seed": seed, "language": language, "split": split, "kind": kind,
                        "example_id": [f"{place}.{i}" for i in range(items)], "group": group,
                        "template_split": wording, **scores,
                    }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def median_seconds(action: Callable[[], object], repeats: int) -> float:
    """Median core time of an action, after one run that does not count.

    With one thread it is what a clock shows on an idle machine, and it is hardly moved by other work.
    """
    action()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return float(np.median(times))


def one_interval(cell: Cell, resamples: int, repeats: int) -> dict[str, float]:
    """Seconds of one BCa interval of one mean, by MMIE's draw of plain items and by the peers.

    The peers know neither clusters nor seeds: they get the items of one run as independent, which is
    less work than MMIE's estimand.
    """
    arm = sorted(cell.scores)[-1]
    values = np.ascontiguousarray(cell.scores[arm][:, 0, 0]) + np.random.default_rng(0).random(
        len(cell.items)
    )
    found: dict[str, float] = {}
    from scipy import stats

    found["scipy.stats.bootstrap"] = median_seconds(
        lambda: stats.bootstrap((values,), np.mean, n_resamples=resamples, method="BCa", rng=0), repeats
    )
    try:
        import pingouin
    except ImportError:
        print("pingouin: left out, it is not installed (pip install -r requirements-dev.txt)")
    else:
        found["pingouin.compute_bootci"] = median_seconds(
            lambda: pingouin.compute_bootci(
                values, func="mean", method="bca", n_boot=resamples, decimals=6, seed=0
            ),
            repeats,
        )
    return found


def agreement(cell: Cell, resamples: int) -> float:
    """Largest difference of an end to SciPy's BCa on the same resamples, in the score's unit."""
    from types import SimpleNamespace

    from scipy import stats

    draws = Draws(Options(n_resamples=resamples))
    arm = sorted(cell.scores)[-1]
    valid = np.ones(len(cell.items), dtype=bool)
    values = np.random.default_rng(0).random((len(cell.items), 1, 1)) ** 2
    plain = Cell(cell.language, cell.name, cell.items, cell.items, ("x",), {arm: values}, {arm: (0,)})
    ours: Resampled = draws.of(plain).means(values, valid=valid)
    interval = bca_interval(ours, 0.05)
    theirs = stats.bootstrap(
        (values[:, 0, 0],), np.mean, n_resamples=0, method="BCa",
        bootstrap_result=SimpleNamespace(bootstrap_distribution=ours.draws[:, 0]),
    ).confidence_interval  # fmt: skip
    return max(abs(interval.low - theirs.low), abs(interval.high - theirs.high))


def intervals_of_all(cells: Cells, options: Options) -> int:
    """Every mean of every arm, with its interval; how many."""
    metrics, _ = levels(cells, ["hi", "hi_Latn"], options, Draws(options))
    return int((metrics["ci_method"] != "none").sum())


def limit(cells: Cells, resamples: int) -> tuple[float, float, float]:
    """(GFLOP, GB, seconds) that resampled means need, at this machine's own rates.

    A mean of one score of one run is one multiply-add per resample and item; every resample is
    written once as float64 and read, written and read again by the sort behind its interval.
    """
    work = written = 0.0
    for cell in cells.values():
        columns = sum(scores.shape[1] * scores.shape[2] for scores in cell.scores.values())
        work += 2.0 * resamples * len(cell.items) * columns
        written += 8.0 * resamples * sum(scores.shape[2] for scores in cell.scores.values())
    left, right = np.random.default_rng(0).random((2, 1500, 1500))
    product = 2 * 1500.0**3 / median_seconds(lambda: left @ right, 3)
    block = np.zeros(20_000_000)
    copied = 2 * 8 * len(block) / median_seconds(lambda: block.copy(), 3)
    return work / 1e9, 4 * written / 1e9, work / product + 4 * written / copied


def main() -> None:
    """Print medians, ratios and the share of the limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="?", default=Path("results/atlas-hi"))
    parser.add_argument("--synthetic", action="store_true", help="random rows of the default shapes")
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    evaluation, attacks = (synthetic_rows(), None) if chosen.synthetic else read_rows(chosen.results)
    configuration = read_configuration(yaml.safe_load(DEFAULT_FILE.read_text(encoding="utf-8")))
    gates = {name: gate.model_dump(mode="json") for name, gate in configuration.gates.items()}
    options = Options(experiment="bench", n_resamples=chosen.resamples, attacks=("relearn",))
    cells = build_cells(evaluation)
    n_intervals = intervals_of_all(cells, options)
    load = os.getloadavg()[0]
    print(f"{len(evaluation)} rows, {n_intervals} intervals, {chosen.resamples} resamples; load {load:.1f}, "
          f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}")  # fmt: skip
    whole = median_seconds(
        lambda: aggregate(evaluation, attacks, configuration.roles, gates, options), chosen.repeats
    )
    ours = median_seconds(lambda: intervals_of_all(cells, options), chosen.repeats)
    print(f"the whole analysis              {whole:9.2f} s")
    print(f"all intervals                   {ours:9.2f} s, {1e3 * ours / n_intervals:.2f} ms each")
    cell = max(cells.values(), key=lambda item: len(item.items))
    for name, seconds in one_interval(cell, chosen.resamples, chosen.repeats).items():
        loop = seconds * n_intervals
        print(f"{name:31s} {loop:9.0f} s in a loop, {1e3 * seconds:.2f} ms each: {loop / ours:.0f} x")
    sorting = median_seconds(
        lambda: bca_intervals(
            Resampled(
                np.zeros(20), np.random.default_rng(0).random((chosen.resamples, 20)), np.zeros((9, 20))
            ),
            0.05,
        ),
        chosen.repeats,
    )
    flop, size, seconds = limit(cells, chosen.resamples)
    print(
        f"limit: {flop:.1f} GFLOP and {size:.1f} GB take {seconds:.2f} s here; reached {seconds / ours:.0%}"
    )
    print(f"sorting behind each interval: {1e3 * sorting / 20:.2f} ms")
    print(f"largest difference to SciPy's BCa on the same resamples: {agreement(cell, chosen.resamples):.1e}")


if __name__ == "__main__":
    main()
