"""Rows of a toy fact base with two wordings, one of them held out, for the toy model of the tests."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest


@pytest.fixture
def facts(toy_rows) -> Callable[..., pd.DataFrame]:
    """Cleaned rows of `count` facts: trained and held-out wording of each, on TEST and holdout groups."""

    def make(language: str = "en", count: int = 8) -> pd.DataFrame:
        base = toy_rows(language, count)
        parts = []
        for wording, split in (("q1", "trained"), ("s2", "held_out")):
            part = base.assign(
                example_id=base["fact_id"] + f"/{wording}", template_id=f"currency.{wording}",
                template_split=split, relation="currency", kind="direct", script="Latn",
                split=["holdout" if number % 4 == 3 else "test" for number in range(count)],
            )  # fmt: skip
            if split == "held_out":
                part["prompt"] = "w60 " + part["prompt"]
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    return make
