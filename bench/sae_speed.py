"""Training speed of sparse autoencoders: MMIE beside sparsify, dictionary_learning and SAELens.

    python bench/sae_speed.py --environments /tmp/sae-peers --install          # once
    python bench/sae_speed.py --environments /tmp/sae-peers --width 256 --expansion 8 --output out.json

Every trainer runs in a process and an environment of its own on the same cached rows in the same order,
with one thread. First each trainer's learning rate is swept alike, on the whole budget; the best rate is
the one with the lowest held-out FVU among those with a dead share of at most 0.3. Then speed is measured
in interleaved repeats at that rate, in tokens per CPU-second. The last column names the rate at which MMIE
has neither a higher FVU nor a higher dead share than a peer at its best rate, if a rate swept is such.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent / "sae"
sys.path.insert(0, str(HERE))
TRAINERS = {
    "mmie": ("mmie", ""),
    "mmie float32": ("mmie", "float32"),
    "sparsify adam": ("sparsify", "adam"),
    "sparsify signum": ("sparsify", "signum"),
    "dictionary_learning": ("dictionary_learning", ""),
    "dictionary_learning patched": ("dictionary_learning", "patched"),
    "saelens": ("saelens", ""),
    "saelens centred": ("saelens", "centred"),
}
"""Library and variant of every trainer."""
UNSWEPT = {"mmie float32": "mmie", "dictionary_learning": "dictionary_learning patched"}
"""Same numbers as another trainer but for rounding: measured for speed at its rate."""
RATES = (1.0, 3.0, 8.0, 12.0, 20.0)
"""Factors on each library's own default rate."""
SIGNUM_FACTOR = 1 / 8
"""Its default is 25 times that of Adam, so the same sweep lies around it."""
MOST_DEAD = 0.3
FLOORS = {"sparsify": 2.0, "dictionary_learning": 3.0, "saelens": 5.0}


def install(environments: Path) -> None:
    """One virtual environment a peer, from its requirements file."""
    for peer in ("sparsify", "dictionary_learning", "saelens"):
        folder = environments / peer
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        # torch first: some peers would choose another build of it.
        for line in (HERE / f"requirements-{peer}.txt").read_text().split():
            subprocess.run([str(folder / "bin/pip"), "install", "-q", line], check=True)


def run_once(
    name: str, options: argparse.Namespace, files: tuple[Path, Path], steps: int, rate: float
) -> dict[str, Any]:
    """One training of one trainer; its JSON line."""
    library, variant = TRAINERS[name]
    own = options.environments / library / "bin" / "python"
    python = sys.executable if library == "mmie" else str(own)
    command = [
        python, str(HERE / f"train_{library}.py"), "--rows", str(files[0]), "--held-out", str(files[1]),
        "--latents", str(options.width * options.expansion), "--k", str(options.k), "--batch",
        str(options.batch), "--steps", str(steps), "--rate", str(rate), "--seed", "0", "--variant", variant,
    ]  # fmt: skip
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads})
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{name:28} rate {rate:<5} {found}", flush=True)
    return found


def best_rate(runs: dict[float, dict[str, Any]]) -> float:
    """The rate with the lowest FVU among those that leave few latents dead; the least dead if none does."""
    alive = {rate: run for rate, run in runs.items() if run["dead"] <= MOST_DEAD}
    if alive:
        return min(alive, key=lambda rate: alive[rate]["fvu"])
    return min(runs, key=lambda rate: runs[rate]["dead"])


def no_worse(ours: dict[float, dict[str, Any]], peer: dict[str, Any]) -> float | None:
    """Of the rates at which MMIE has neither a higher FVU nor a higher dead share, that of the lowest FVU."""
    rates = [rate for rate, run in ours.items() if run["fvu"] <= peer["fvu"] and run["dead"] <= peer["dead"]]
    return min(rates, key=lambda rate: ours[rate]["fvu"], default=None)


def summary(name: str, sweep: dict[float, dict[str, Any]], rate: float, timed: list[Any]) -> dict[str, Any]:
    """What the table shows of a trainer."""
    speeds = [run["tokens"] / run["cpu_s"] for run in timed]
    whole = sweep[rate]
    return {
        "trainer": name,
        "rate": rate,
        "fvu": whole["fvu"],
        "dead": whole["dead"],
        "tokens_per_cpu_s": statistics.median(speeds),
        "spread": [min(speeds), max(speeds)],
        "peak_mib": statistics.median(run["peak_mib"] for run in timed),
        "sweep": sweep,
    }


def main() -> None:
    """Sweep, time, print a table and write everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--environments", type=Path, required=True)
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--expansion", type=int, default=8)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--timed-steps", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3, help="0: speed from the sweep's runs")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=list(TRAINERS))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.install:
        install(options.environments)
        return
    from rows import activations

    files = (options.environments / "rows.npy", options.environments / "held_out.npy")
    np.save(files[0], activations(options.steps * options.batch, options.width, seed=1))
    np.save(files[1], activations(8192, options.width, seed=2))
    sweeps: dict[str, dict[float, dict[str, Any]]] = {}
    # Rates outside, trainers inside: the machine's mood falls on all alike.
    for rate in options.rates:
        for name in options.trainers:
            if UNSWEPT.get(name) not in options.trainers:
                own = round(rate * (SIGNUM_FACTOR if name == "sparsify signum" else 1), 4)
                found = run_once(name, options, files, options.steps, own)
                sweeps.setdefault(name, {})[own] = found
    for name in options.trainers:
        sweeps.setdefault(name, sweeps[UNSWEPT.get(name, name)])
    chosen = {name: best_rate(sweeps[name]) for name in options.trainers}
    timed: dict[str, list[Any]] = {name: [] for name in options.trainers}
    for _ in range(options.repeats):
        for name in options.trainers:
            timed[name].append(run_once(name, options, files, options.timed_steps, chosen[name]))
    if not options.repeats:
        timed = {name: list(sweeps[name].values()) for name in options.trainers}
    table = [summary(name, sweeps[name], chosen[name], timed[name]) for name in options.trainers]
    ours = next((row for row in table if row["trainer"] == "mmie"), table[0])
    print(
        "| trainer | rate x default | FVU | dead | tokens / CPU-s | MMIE is faster by | peak MiB | "
        "MMIE no worse in FVU and dead at |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in table:
        row["ratio"] = ours["tokens_per_cpu_s"] / row["tokens_per_cpu_s"]
        row["no_worse"] = no_worse(ours["sweep"], row) if ours["trainer"] == "mmie" else None
        print(
            f"| {row['trainer']} | {row['rate']:g} | {row['fvu']:.3f} | {row['dead']:.2f} | "
            f"{row['tokens_per_cpu_s']:,.0f} | {row['ratio']:.2f} | "
            f"{row['peak_mib']:.0f} | {row['no_worse'] or 'none'} |"
        )
    print("floors:", FLOORS)
    if options.output:
        settings = {key: str(value) for key, value in vars(options).items()}
        options.output.write_text(json.dumps({"settings": settings, "table": table}, indent=1))


if __name__ == "__main__":
    main()
