"""Costs are read from what the run recorded, never estimated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from mmie.errors import InputError
from mmie.io import write_json
from mmie.report.costs import arm_costs, stage_costs
from mmie.report.inputs import ReportInputs
from mmie.report.page import build_report
from mmie.report.tables import record

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def _benchmark(path: Path, seconds: float, memory: float | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    line = [seconds, "0:00:01", memory, "-", "-", "-", "-", "-", "-", seconds]
    path.write_text(HEADER + "\t".join(map(str, line)) + "\n")


def test_jobs_of_a_stage_are_summed_and_the_largest_memory_counts(tmp_path: Path) -> None:
    _benchmark(tmp_path / "benchmarks" / "arm" / "lora-1.tsv", 30, 500)
    _benchmark(tmp_path / "benchmarks" / "arm" / "lora-2.tsv", 50, 700)
    _benchmark(tmp_path / "benchmarks" / "base.tsv", 4, "-")  # too short to be measured
    costs = stage_costs(tmp_path)
    assert list(costs.index) == ["arm", "base"]
    assert costs.loc["arm", ["jobs", "wall_sum_s", "wall_median_s", "wall_max_s"]].tolist() == [2, 80, 40, 50]
    assert costs.loc["arm", "peak_memory_mib"] == 700
    assert costs.loc["base"].isna()["peak_memory_mib"]


def test_a_run_without_benchmarks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no benchmark files"):
        stage_costs(tmp_path)


@pytest.mark.regression("EVA-31")
def test_the_cost_row_of_an_arm_is_its_manifests(tmp_path: Path) -> None:
    for seed, seconds, memory in ((1, 10.0, 600.0), (2, 20.0, 640.0)):
        folder = tmp_path / "arms" / "lora-npo" / f"seed{seed}"
        folder.mkdir(parents=True)
        tensors = {"a": np.zeros((4, 8), np.float32), "b": np.zeros(6 * seed, np.float32)}
        save_file(tensors, folder / "adapter.safetensors")
        write_json(folder / "manifest.json", {"cost": {"wall_seconds": seconds, "peak_memory_mb": memory}})
        facts = {"kind": "lora", "fitted": {"layers": [3, 0, 1]}}
        write_json(folder / "intervention.json", facts)
        in_force = {"changed": 100 * seed, "added": 0, "total": 1000, "relative_norm": 0.02}
        in_force["seconds_per_token"] = 0.001 * seed
        write_json(tmp_path / "depth" / "lora-npo" / f"seed{seed}.json", in_force)
    [row] = arm_costs(tmp_path).to_dict("records")
    assert row == {
        "arm": "lora-npo", "layers": "0-1, 3", "seeds": 2, "fit_seconds": 15.0, "peak_memory_mb": 640.0,
        "parameters": 44, "bytes_stored": sum(file.stat().st_size for file in folder.glob("[ai]*")),
        "changed": 150.0, "added": 0.0, "total": 1000.0, "relative_norm": 0.02, "seconds_per_token": 0.0015,
    }  # fmt: skip


def test_what_was_not_measured_in_force_is_missing_and_not_zero(tmp_path: Path) -> None:
    folder = tmp_path / "arms" / "base" / "seed0"
    folder.mkdir(parents=True)
    write_json(folder / "manifest.json", {"cost": {"wall_seconds": 1.0, "peak_memory_mb": 5.0}})
    write_json(folder / "intervention.json", {"kind": "none", "fitted": {}})
    [row] = arm_costs(tmp_path).to_dict("records")
    assert row["layers"] == ""
    assert pd.isna(row["changed"]) and pd.isna(row["seconds_per_token"])


@pytest.mark.regression("MEM-15")
def test_what_the_page_says_of_memory_and_time_is_the_manifest_and_nothing_else(
    tmp_path: Path, synthetic: ReportInputs
) -> None:
    measured = {"lora-npo": {1: (31.4, 690.0), 2: (33.0, 700.0)}, "base": {0: (1.2, 401.0)}}
    for arm, seeds in measured.items():
        for seed, (seconds, memory) in seeds.items():
            folder = tmp_path / "arms" / arm / f"seed{seed}"
            write_json(folder / "intervention.json", {"kind": "lora", "fitted": {}})
            cost = {"wall_seconds": seconds, "peak_memory_mb": memory}
            write_json(folder / "manifest.json", {"cost": cost})
    found = replace(synthetic, arm_costs=arm_costs(tmp_path))
    shown = {row["arm"]: (row["seconds"], row["memory"]) for row in record.arm_costs(found)}
    # Arms without a manifest have no line, where a line of zeros would be a statement.
    assert shown == {"base": ("1", "401"), "lora-npo": ("32", "700")}
    assert all(row["latency"] == row["changed"] == "n/m" for row in record.arm_costs(found))
    page = build_report(replace(synthetic, arm_costs=arm_costs(tmp_path / "nothing")))
    assert "no cost is known" in page
