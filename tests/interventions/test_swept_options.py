"""A sweep over a real arm: options that act are let through, one that this arm does not read is not."""

from __future__ import annotations

from typing import Any

import pytest

from mmie.errors import InputError
from mmie.interventions import FitData
from mmie.sweep.choice import check_grid_acts
from mmie.sweep.trials import trials
from mmie.training.reference import reference_log_likelihoods


@pytest.mark.regression("ACT-16")
@pytest.mark.parametrize(
    ("key", "values", "acts"), [("strength", [1.0, 2.0], True), ("window", [2, 8], False)]
)
def test_perturbing_a_swept_option_changes_what_is_measured_or_is_an_error(
    key: str, values: list[Any], acts: bool, toy_model: Any, toy_data: FitData, fitted: Any
) -> None:
    """`window` is read by gates alone, and this arm has none."""
    swept = trials("arm", {"kind": "sae_clamp", "features": 3, "strength": 2.0, "window": 8}, {key: values})
    tables = {}
    for one in swept:
        options = {name: value for name, value in one.options.items() if name != "kind"}
        with fitted("sae_clamp", **options).applied(toy_model) as changed:
            tables[one.name] = reference_log_likelihoods(changed, toy_data.tokenizer, toy_data.forget)
    changes = {one.name: one.changes for one in swept}
    if acts:
        assert check_grid_acts(tables, changes) == {key: True}
    else:
        with pytest.raises(InputError, match="'window' changes no generation and no score"):
            check_grid_acts(tables, changes)
