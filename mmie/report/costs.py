"""What a run cost: every stage from Snakemake's own benchmark files, every arm from its manifest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import safe_open

from mmie.errors import InputError
from mmie.io import read_json


def stage_costs(results: str | Path) -> pd.DataFrame:
    """One row a stage, the most expensive first.

    Jobs of one stage run side by side, so the sum of their wall times is core time, not waiting time.

    Args:
        results: folder of an experiment.

    Returns:
        Index `stage`; jobs, wall_sum_s, wall_median_s, wall_max_s, cpu_sum_s (seconds) and
        peak_memory_mib of the largest job.

    Raises:
        InputError: no benchmark files.
    """
    folder = Path(results) / "benchmarks"
    files = sorted(folder.rglob("*.tsv"))
    if not files:
        raise InputError(f"{folder}: no benchmark files. Run the workflow first.")
    frames = []
    for file in files:
        frame = pd.read_csv(file, sep="\t", na_values="-")
        # Jobs without wildcards lie directly in the folder, the others in one named like the stage.
        stage = file.relative_to(folder).parts[0].removesuffix(".tsv")
        frames.append(frame.assign(stage=stage))
    grouped = pd.concat(frames).groupby("stage")
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
    return costs.sort_values("wall_sum_s", ascending=False, kind="stable")


COST_COLUMNS = (
    "fit_seconds", "peak_memory_mb", "bytes_stored", "changed", "added", "total", "relative_norm",
    "seconds_per_token",
)  # fmt: skip
_ONE_EACH = ("changed", "added", "total", "relative_norm", "seconds_per_token")


def arm_costs(results: str | Path) -> pd.DataFrame:
    """One row an arm: what fitting it took, as its manifests say, and what it costs in force.

    Returns:
        arm, seeds, fit_seconds (mean over seeds), peak_memory_mb (largest), bytes_stored (largest); from
        `depth/`, means over seeds: changed, added and total parameters, relative_norm of the change,
        seconds_per_token; NaN where depth was not measured. layers: the blocks that it acts on, "" where
        it does not choose blocks. parameters: those of the arm itself, as stored (largest over seeds).
    """
    root = Path(results)
    rows = []
    for manifest in sorted((root / "arms").glob("*/seed*/manifest.json")):
        cost, arm, seed = read_json(manifest)["cost"], manifest.parents[1].name, manifest.parent.name
        in_force = root / "depth" / arm / f"{seed}.json"
        measured = read_json(in_force) if in_force.exists() else {}
        rows.append({
            "arm": arm,
            "parameters": stored_parameters(manifest.parent),
            "layers": edited_layers(read_json(manifest.parent / "intervention.json")["fitted"]),
            "fit_seconds": cost["wall_seconds"],
            "peak_memory_mb": cost["peak_memory_mb"],
            "bytes_stored": sum(
                file.stat().st_size for file in manifest.parent.iterdir() if file != manifest
            ),
            **{name: _number(measured.get(name)) for name in _ONE_EACH},
        })  # fmt: skip
    grouped = pd.DataFrame(rows, columns=["arm", "layers", "parameters", *COST_COLUMNS]).groupby(
        "arm", sort=True
    )
    largest = {"peak_memory_mb", "bytes_stored"}
    return pd.DataFrame({
        "seeds": grouped.size(),
        "parameters": grouped["parameters"].max(),
        # Random layers differ between seeds.
        "layers": grouped["layers"].agg(lambda found: "; ".join(sorted(set(found)))),
        **{name: grouped[name].max() if name in largest else grouped[name].mean() for name in COST_COLUMNS},
    }).reset_index()  # fmt: skip


def stored_parameters(folder: Path) -> int:
    """Numbers that a fitted arm is made of: those in its safetensors files, by their headers."""
    count = 0
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "np") as tensors:
            names = tensors.keys()
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    return count


def edited_layers(facts: Mapping[str, Any]) -> str:
    """The blocks that a fitted arm acts on, as "0-3, 5"; "" for an arm that has no such list.

    Args:
        facts: `fitted` of its intervention.json.
    """
    layers = sorted(map(int, facts.get("layers") or ()))
    parts: list[list[int]] = []
    for layer in layers:
        if parts and layer == parts[-1][-1] + 1:
            parts[-1].append(layer)
        else:
            parts.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in parts)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
