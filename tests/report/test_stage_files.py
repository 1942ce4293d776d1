"""What stages left is averaged as scores are; what they did not leave is empty; half a table is an error."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from mmie.errors import InputError
from mmie.io import write_json, write_parquet
from mmie.report.stage_files import (
    dose_rates,
    leak_rates,
    read_attack,
    read_contexts,
    read_depth,
    read_doses,
    read_rewrites,
    read_steering,
    read_sweeps,
    steering_rates,
)


def row(seed: int, group: str, item: int, leak: float, variant: str = "prefix") -> dict[str, object]:
    return {"arm": "a", "seed": seed, "language": "hi", "variant": variant, "group": group,
            "example_id": f"{group}/{item}", "leak": leak}  # fmt: skip


def test_a_rate_weighs_seeds_alike_then_clusters_then_items() -> None:
    rows = [row(1, "x", 0, 1.0), row(1, "x", 1, 1.0), row(1, "x", 2, 1.0), row(1, "y", 0, 0.0),
            row(2, "x", 0, 0.0), row(2, "x", 1, 0.0), row(2, "x", 2, 0.0), row(2, "y", 0, 0.0)]  # fmt: skip
    [found] = leak_rates(pd.DataFrame(rows), ("arm", "language", "variant")).to_dict("records")
    # Seed 1: (1 + 0) / 2; seed 2: 0; their mean. Plain rows would give 3 of 8.
    assert (found["leak"], found["n_items"]) == (0.25, 4)


def test_seeds_that_were_pushed_at_other_layers_are_one_rate() -> None:
    rows = [row(1, "x", 0, 1.0, "layer 1"), row(2, "x", 0, 0.0, "layer 2"), row(3, "x", 0, 0.0, "layer 2")]
    [found] = steering_rates(pd.DataFrame(rows)).to_dict("records")
    assert found["leak"] == pytest.approx(1 / 3)
    assert found["variant"] == "layer 1; layer 2"


def test_the_base_of_a_dose_has_no_share_and_stays() -> None:
    rows = [{"arm": "a", "language": "hi", "share": share, "strength": share, "group": "g", "leak": leak,
             "correct": 1.0} for share, leak in ((math.nan, 1.0), (0.0, 1.0), (1.0, 0.0))]  # fmt: skip
    found = dose_rates(pd.DataFrame(rows))
    assert list(found["leak"]) == [1.0, 0.0, 1.0]
    assert found["share"].isna().tolist() == [False, False, True]


def test_stages_that_were_not_run_leave_empty_tables(tmp_path: Path) -> None:
    assert read_depth(tmp_path, oracle="oracle_reference", calibration=[]).empty
    for read in (read_rewrites, read_steering, read_contexts, read_doses):
        assert read(tmp_path).empty
    assert read_sweeps(tmp_path) == {}


def test_half_a_table_is_an_error_that_names_file_and_column(tmp_path: Path) -> None:
    table = pd.DataFrame([row(1, "x", 0, 1.0)]).drop(columns="leak")
    write_parquet(tmp_path / "attack/rewrite_variants/a/seed1.parquet", table)
    with pytest.raises(InputError, match=r"seed1\.parquet: column 'leak'"):
        read_attack(tmp_path, "rewrite_variants")
    write_json(tmp_path / "sweep/a/chosen.json", {"chosen": None})
    write_parquet(tmp_path / "sweep/a/trials.parquet", pd.DataFrame({"trial": ["t"], "number": [0]}))
    with pytest.raises(InputError, match=r"trials\.parquet: column 's_mem'"):
        read_sweeps(tmp_path)
