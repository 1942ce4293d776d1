from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from mmie.interventions import FitData, build
from mmie.models.loading import save_model
from mmie.training.reference import reference_log_likelihoods

TRAINING = {"steps": 4, "learning_rate": 0.02, "forget_batch": 4, "retain_batch": 4}
OPTIONS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 2, "layers": "all", "training": TRAINING},
    "reft": {"rank": 2, "layers": "all", "training": TRAINING},
}


@pytest.fixture
def score(toy_tokenizer: Any) -> Any:
    """Answer probability by teacher forcing; leak is 1 where it is above one in a thousand."""

    def compute(model: Any, rows: pd.DataFrame) -> pd.DataFrame:
        table = reference_log_likelihoods(model, toy_tokenizer, rows)
        probability = (-table["nll_sum"] / table["n_tokens"]).map(lambda value: float(2.718281828**value))
        return pd.DataFrame(
            {
                "example_id": rows["example_id"].to_numpy(),
                "leak": (probability > 1e-3).astype(float),
                "correct": 0.0,
                "answer_probability": probability,
            }
        )

    return compute


@pytest.fixture
def sets(toy_rows: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Nine groups for the attacker, three for the score."""
    rows = toy_rows("xx")
    return rows.head(9), rows.tail(3)


@pytest.fixture
def data(toy_model: Any, toy_tokenizer: Any, toy_rows: Any, tmp_path: Path) -> FitData:
    """FIT rows of two languages, and an oracle: the toy model with other weights."""
    oracle = type(toy_model)(toy_model.config)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter.normal_(0, 0.2, generator=generator)
    (tmp_path / "oracle").mkdir()
    save_model(oracle, toy_tokenizer, tmp_path / "oracle")
    forget = toy_rows("xx").head(9)
    return FitData(
        tokenizer=toy_tokenizer,
        forget=forget,
        retain=toy_rows("yy", first_word=31),
        reference=reference_log_likelihoods(toy_model, toy_tokenizer, forget),
        oracle=tmp_path / "oracle",
    )


@pytest.fixture
def arm(toy_model: Any, data: FitData) -> Callable[[str], Any]:
    """Build an arm of a kind and fit it to the toy model."""

    def make(kind: str) -> Any:
        built = build({"kind": kind, **OPTIONS.get(kind, {})})
        built.fit(toy_model, data, seed=1)
        return built

    return make
