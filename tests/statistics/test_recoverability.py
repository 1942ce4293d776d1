from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mmie.errors import InputError
from mmie.statistics.options import Options
from mmie.statistics.recoverability import recoverability

FAST = Options(experiment="probe", n_resamples=1000)


def predictions(arm: str, strength: float, noise: float = 0.0, clusters: int = 30) -> pd.DataFrame:
    """A probe on 3 items a cluster and class; the same items have the same ease in every arm."""
    ease = np.random.default_rng(0).normal(size=6 * clusters)
    own = noise * np.random.default_rng(len(arm)).normal(size=6 * clusters)
    label = np.arange(6 * clusters) % 2
    names = [f"{place:03d}" for place in range(6 * clusters)]
    return pd.DataFrame({
        "arm": arm, "seed": 0, "example_id": names, "group": [f"g{int(name) // 6}" for name in names],
        "label": label, "score": strength * label + ease + own,
    })  # fmt: skip


@pytest.mark.regression("EVA-13")
def test_only_a_change_against_the_base_counts_however_well_a_probe_reads_the_arm() -> None:
    rows = pd.concat([
        predictions("base", 2.0), predictions("no-op", 2.0), predictions("sae-random", 2.0, noise=0.1),
        predictions("erased", 0.0), predictions("oracle", 0.3),
    ])  # fmt: skip
    found = recoverability(rows, FAST).set_index("arm")
    # Every working model is read with an AUC far above .55; that alone flags nothing.
    assert (found.loc[["base", "no-op", "sae-random"], "auc"] > 0.85).all()
    assert found["changed"].to_dict() == {
        "base": False, "no-op": False, "sae-random": False, "erased": True, "oracle": True,
    }  # fmt: skip
    assert found.loc["no-op", "change"] == 0.0
    assert (
        found.loc["erased", "auc"] == pytest.approx(0.5, abs=0.1) and found.loc["erased", "change_high"] < 0
    )
    assert found["calibration"].to_dict()["erased"] is False and found.loc["base", "calibration"]


def test_arms_probed_on_different_items_are_not_compared() -> None:
    rows = pd.concat([predictions("base", 2.0), predictions("arm", 2.0).iloc[:-1]])
    with pytest.raises(InputError, match="other items than the base"):
        recoverability(rows, FAST)


def test_without_the_base_a_probe_says_nothing() -> None:
    with pytest.raises(InputError, match="no rows of 'base'"):
        recoverability(predictions("arm", 2.0), FAST)
