from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch

from mmie.arm_options import SaeClampArm
from mmie.errors import InputError
from mmie.sae.item_statistics import ItemStatistics, LatentStatistics
from mmie.sae.pickers import (
    PICKERS,
    choose_latents,
    dsg_ratio,
    dsg_squared_mean,
    script_invariant,
    specificity,
)


def codes(*means: float, rate: float = 0.5) -> LatentStatistics:
    """Statistics of items with these mean codes, one a latent."""
    values = np.array(means, dtype=np.float64)
    return LatentStatistics(values, np.ones_like(values), rate * (values > 0), values**2)


# Latent 0 speaks Hindi in both scripts, 1 only Devanagari text, 2 every language, 3 the letters of
# Devanagari and of Hindi in Latin, words or not.
HINDI = codes(3, 5, 4, 2)
ROMAN = codes(2, 0, 4, 2)
ENGLISH = codes(0, 0, 4, 0)
GIBBERISH = {"hi": codes(0, 5, 1, 2), "hi_Latn": codes(0, 0, 1, 2)}
STATISTICS = {"hi": HINDI, "hi_Latn": ROMAN, "en": ENGLISH}


@pytest.mark.regression("SAE-07")
def test_only_the_language_in_both_scripts_is_script_invariant() -> None:
    score = script_invariant(STATISTICS, GIBBERISH, forget=["hi", "hi_Latn"], retain=["en"])
    assert score == pytest.approx([2, -5, 0, 0], abs=1e-5)
    assert int(score.argmax()) == 0


@pytest.mark.regression("SAE-07")
def test_a_language_general_latent_is_not_script_invariant() -> None:
    loud = {**STATISTICS, "en": codes(0, 0, 4.5, 0)}
    score = script_invariant(loud, GIBBERISH, forget=["hi", "hi_Latn"], retain=["en"])
    assert score[2] < 0 < score[0]


@pytest.mark.regression("SAE-07")
def test_identical_scripts_raise() -> None:
    same = {**STATISTICS, "hi_Latn": HINDI}
    with pytest.raises(InputError, match="same text"):
        script_invariant(same, GIBBERISH, forget=["hi", "hi_Latn"], retain=["en"])
    # Equal means alone do not make two texts one.
    alike = {**STATISTICS, "hi_Latn": codes(3, 5, 4, 2, rate=0.6)}
    assert len(script_invariant(alike, GIBBERISH, forget=["hi", "hi_Latn"], retain=["en"])) == 4


@pytest.mark.regression("SAE-07")
def test_one_script_no_retain_language_or_no_gibberish_raises() -> None:
    with pytest.raises(InputError, match="two scripts"):
        script_invariant(STATISTICS, GIBBERISH, forget=["hi"], retain=["en"])
    with pytest.raises(InputError, match="retain"):
        script_invariant(STATISTICS, GIBBERISH, forget=["hi", "hi_Latn"], retain=[])
    with pytest.raises(InputError, match="no gibberish for hi_Latn"):
        script_invariant(STATISTICS, {"hi": HINDI}, forget=["hi", "hi_Latn"], retain=["en"])


def test_specificity_by_hand() -> None:
    statistics = {**STATISTICS, "bn": codes(1, 0, 2, 0)}
    nu = specificity(statistics, forget=["hi", "hi_Latn"], retain=["en", "bn"])
    assert nu == pytest.approx([2.5 - 0.5, 2.5, 4 - 3, 2], abs=1e-5)


def of_power(power: np.ndarray) -> LatentStatistics:
    blank = np.zeros_like(power)
    return LatentStatistics(blank, blank, blank, power)


def test_the_ratio_rule_keeps_the_top_and_ranks_by_strength() -> None:
    power = np.array([9.0, 4.0, 100.0, 0.0])
    on_retain = np.array([0.09, 0.02, 100.0, 5.0])
    statistics = {"hi": of_power(power), "en": of_power(on_retain)}
    # Ratios 100, 200, 1: the top two of three are kept, the stronger first; 3 never fires on Hindi.
    score = dsg_ratio(statistics, forget=["hi"], retain=["en"], percentile=50)
    assert score.tolist() == [9, 4, 0, 0]
    # The top twentieth of three is the first alone.
    assert dsg_ratio(statistics, forget=["hi"], retain=["en"], percentile=100).tolist() == [0, 4, 0, 0]


def test_the_two_forms_of_dsg_by_hand() -> None:
    """Latent 0 fires seldom and strongly, latent 1 always and weakly; on English both fire the same."""
    hindi = ItemStatistics(2)
    # Four tokens: codes (8, 0), (0, 3), (0, 3), (0, 3).
    hindi.add(
        torch.tensor([[8.0], [3.0], [3.0], [3.0]]), torch.tensor([[0], [1], [1], [1]]), torch.zeros(4).long()
    )
    english = ItemStatistics(2)
    english.add(torch.tensor([[1.0, 1.0]]), torch.tensor([[0, 1]]), torch.zeros(1).long())
    statistics = {"hi": hindi.result(), "en": english.result()}
    # Mean squares 64/4 and 27/4; squared means (8/4)^2 and (9/4)^2.
    both = {"forget": ["hi"], "retain": ["en"], "percentile": 0}
    assert dsg_ratio(statistics, **both).tolist() == [16, 6.75]
    assert dsg_squared_mean(statistics, **both).tolist() == [4, 5.0625]
    top = {**both, "percentile": 100}
    assert dsg_ratio(statistics, **top).tolist() == [16, 0]
    assert dsg_squared_mean(statistics, **top).tolist() == [0, 5.0625]


def test_the_mean_over_languages_is_squared_not_the_squares_averaged() -> None:
    statistics = {"hi": codes(2), "hi_Latn": codes(4), "en": codes(1), "bn": codes(0)}
    score = dsg_squared_mean(statistics, forget=["hi", "hi_Latn"], retain=["en", "bn"])
    assert score == pytest.approx([9.0], abs=1e-5)


def test_a_latent_that_never_fires_elsewhere_has_the_largest_ratio() -> None:
    statistics = {"hi": of_power(np.array([1.0, 8.0])), "en": of_power(np.array([0.0, 1.0]))}
    score = dsg_ratio(statistics, forget=["hi"], retain=["en"], percentile=100)
    assert score.tolist() == [1, 0]


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rate = rng.uniform(0.01, 0.2, 60)
    score = np.zeros(60)
    score[[5, 9, 30]] = (2, 3, 2)
    return pd.DataFrame(
        {
            "latent": np.arange(60),
            "score": score,
            "rate_forget": rate,
            "rate_retain": rate,
            "decoder_norm": 1.0,
        }
    )


def test_the_largest_scores_are_chosen_ties_to_the_lower_index() -> None:
    assert choose_latents(table(), "contrast", 3, layer=1) == [9, 5, 30]
    with pytest.raises(InputError, match="3 latents of layer 1 score above 0, 4 are wanted"):
        choose_latents(table(), "contrast", 4, layer=1)
    with pytest.raises(InputError, match="two scripts"):
        choose_latents(table(), "script_invariant", 1, layer=1)
    with pytest.raises(InputError, match="none of"):
        choose_latents(table(), "best", 1, layer=1)


def test_random_latents_are_others_and_change_with_the_seed() -> None:
    draws = [choose_latents(table(), "random", 3, layer=1, seed=seed) for seed in range(5)]
    assert all(not set(draw) & {5, 9, 30} for draw in draws)
    assert len({tuple(draw) for draw in draws}) > 1
    assert draws[1] == choose_latents(table(), "random", 3, layer=1, seed=1)


def test_arms_may_name_every_picker() -> None:
    assert set(get_args(SaeClampArm.model_fields["picker"].annotation)) == set(PICKERS)
