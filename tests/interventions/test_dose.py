from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from mmie.errors import InputError
from mmie.interventions import FitData
from mmie.interventions.dose import dose_response
from mmie.training.reference import reference_log_likelihoods


@pytest.mark.parametrize("kind", ["diff_means", "leace", "subspace", "language_neurons", "sae_clamp"])
def test_share_zero_is_the_base_and_every_other_share_its_own_arm(
    kind: str, talkative: Any, toy_data: FitData, fitted: Any
) -> None:
    def score(model: Any) -> pd.DataFrame:
        return reference_log_likelihoods(model, toy_data.tokenizer, toy_data.forget)

    table = dose_response(talkative, fitted(kind), score, shares=(-1.0, 0.0, 0.5, 1.0))
    nll = table.groupby("share", dropna=False)["nll_sum"].apply(list)
    assert nll[0.0] == nll[float("nan")]
    assert len({tuple(values) for values in nll}) == 4
    full = fitted(kind)
    with full.applied(talkative) as changed:
        assert score(changed)["nll_sum"].tolist() == nll[1.0]
    assert table.loc[table["share"] == 0.5, "strength"].iloc[0] == 0.5 * full.strength


def test_an_inverted_arm_moves_the_other_way(talkative: Any, fitted: Any) -> None:
    """Where an ablation takes the component to the mean, its inverse takes it as far beyond."""
    import torch

    from mmie.models.hooks import capture

    arm = fitted("diff_means")
    v, seen = arm.fitted.tensors["layers.1.direction"], {}
    for strength in (0.0, 1.0, -1.0):
        with torch.no_grad(), arm.at_strength(strength).applied(talkative), capture(talkative, [1]) as states:
            talkative(input_ids=torch.tensor([[1, 5, 9, 40]]))
        seen[strength] = states.hidden[1][0, 1:] @ v
    assert torch.allclose(seen[-1.0] - seen[0.0], seen[0.0] - seen[1.0], atol=1e-5)


def test_arms_without_a_strength_and_curves_without_zero_are_refused(talkative: Any, fitted: Any) -> None:
    with pytest.raises(InputError, match="has no strength"):
        dose_response(talkative, fitted("prompt_only"), lambda model: pd.DataFrame())
    with pytest.raises(InputError, match="share 0 is missing"):
        dose_response(talkative, fitted("leace"), lambda model: pd.DataFrame(), shares=(0.5, 1.0))
