from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from mmie.activations.storage import ActivationStore
from mmie.errors import InputError
from mmie.sae.features import contrast_table, pick_contrast, pick_random_matched
from mmie.sae.item_statistics import latent_statistics
from mmie.sae.topk import TopKSAE

Writer = Callable[..., ActivationStore]
WIDTH = 10


def axes(k: int = 3) -> TopKSAE:
    """Latent j is the positive part of dimension j, if among the k largest."""
    sae = TopKSAE(WIDTH, WIDTH, k)
    with torch.no_grad():
        sae.w_enc.copy_(torch.eye(WIDTH))
        sae.w_dec.copy_(torch.eye(WIDTH))
    return sae.requires_grad_(False)


def rows(marks: dict[int, float], items: int = 40, seed: int = 0) -> np.ndarray:
    """Noise in every dimension; dimension `j` is raised by marks[j]."""
    x = np.abs(np.random.default_rng(seed).normal(size=(items * 8, WIDTH))).astype(np.float32)
    for dimension, mark in marks.items():
        x[:, dimension] += mark
    return x


def test_the_latent_of_the_forget_language_is_picked(write_store: Writer) -> None:
    store = write_store({"hi": rows({2: 3, 5: 3}), "en": rows({5: 3}, seed=1)})
    statistics = latent_statistics(axes(), store)
    found = pick_contrast(axes(), statistics, layer=1, forget=["hi"], retain=["en"], top_k=1)
    assert found["features"] == [2]
    assert found["picker"] == "contrast" and found["layer"] == 1
    assert found["stability"] == 1
    assert found["scores"][0] > 0


def test_a_language_general_latent_is_not_picked(write_store: Writer) -> None:
    store = write_store({"hi": rows({2: 3, 5: 9}), "en": rows({5: 9}, seed=1)})
    statistics = latent_statistics(axes(), store)
    table = contrast_table(axes(), statistics, forget=["hi"], retain=["en"])
    assert table["score"].idxmax() == 2
    assert abs(table["score"][5]) < 0.5
    with pytest.raises(InputError, match="forget and retain"):
        contrast_table(axes(), statistics, forget=["hi"], retain=[])


def test_a_latent_shared_with_a_neighbour_is_not_picked_once_it_is_a_negative(write_store: Writer) -> None:
    # Latent 5 is shared by Hindi and Urdu and stronger than 2, which Hindi has alone.
    store = write_store({"hi": rows({2: 3, 5: 4}), "en": rows({}, seed=1), "ur": rows({5: 4}, seed=2)})
    statistics = latent_statistics(axes(), store)

    def picked(retain: list[str]) -> list[int]:
        found = pick_contrast(axes(), statistics, layer=1, forget=["hi"], retain=retain, top_k=1)
        return list(found["features"])

    assert picked(["en"]) == [5]
    assert picked(["en", "ur"]) == [2]


@pytest.mark.regression("SAE-06")
def test_codes_are_averaged_not_inputs(write_store: Writer) -> None:
    # Latent 0 fires strongly on half the tokens and is far below zero on the others: the code of the
    # mean is 0, the mean of codes is not.
    hindi = np.zeros((320, WIDTH), dtype=np.float32)
    hindi[::2, 0], hindi[1::2, 0] = 5, -6
    hindi[:, 1] = 0.1
    store = write_store({"hi": hindi, "en": rows({}, seed=1) * 0.01})
    statistics = latent_statistics(axes(k=1), store)
    assert statistics["hi"].mean[0] == pytest.approx(2.5)
    assert statistics["hi"].variance[0] == pytest.approx(0)
    assert statistics["hi"].rate[0] == 0.5
    assert float(axes(k=1).codes(torch.from_numpy(hindi.mean(0)))[0]) == 0


def test_the_score_is_the_difference_over_the_deviation_of_items(write_store: Writer) -> None:
    hindi, english = np.zeros((16, WIDTH), np.float32), np.zeros((16, WIDTH), np.float32)
    hindi[:8, 0], hindi[8:, 0] = 2, 4
    english[:8, 0], english[8:, 0] = 0, 2
    statistics = latent_statistics(axes(), write_store({"hi": hindi, "en": english}))
    table = contrast_table(axes(), statistics, forget=["hi"], retain=["en"])
    # Means 3 and 1; both variances over items are 2.
    assert table["score"][0] == pytest.approx(2 / np.sqrt(2))
    assert (table["score"][1:] == 0).all()


def test_fewer_latents_than_wanted_is_an_error(write_store: Writer) -> None:
    store = write_store({"hi": rows({2: 3}), "en": rows({5: 3}, seed=1)})
    statistics = latent_statistics(axes(), store)
    with pytest.raises(InputError, match="are wanted"):
        pick_contrast(axes(), statistics, layer=1, forget=["hi"], retain=["en"], top_k=WIDTH)


def matching_table(latents: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    forget = rng.uniform(0.001, 0.3, latents)
    retain = rng.uniform(0.001, 0.3, latents)
    forget[-20:] = retain[-20:] = 0
    return pd.DataFrame(
        {
            "latent": np.arange(latents),
            "score": forget - retain,
            "rate_forget": forget,
            "rate_retain": retain,
            "decoder_norm": 1.0,
        }
    )


@pytest.mark.regression("SAE-27")
def test_random_latents_match_the_firing_rates_of_the_picked() -> None:
    table = matching_table()
    features = [3, 50, 200, 301]
    found = pick_random_matched(table, features, layer=1, seed=0)
    assert len(set(found["features"])) == 4
    assert not set(found["features"]) & set(features)
    assert found["decile_distance"] == [0, 0, 0, 0]
    for feature, latent in zip(features, found["features"], strict=True):
        for column in ("rate_forget", "rate_retain"):
            # A decile of a uniform spread over 0.3 is 0.03 wide.
            assert abs(table[column][feature] - table[column][latent]) < 0.04


@pytest.mark.regression("SAE-27")
def test_random_sets_are_reproducible_and_several() -> None:
    table = matching_table()
    draws = [tuple(pick_random_matched(table, [3, 50], layer=1, seed=seed)["features"]) for seed in range(6)]
    assert len(set(draws)) > 1
    assert draws[2] == tuple(pick_random_matched(table, [3, 50], layer=1, seed=2)["features"])


def test_latents_that_never_fire_are_no_control() -> None:
    table = matching_table(30)
    found = pick_random_matched(table, [0, 1, 2], layer=1, seed=0)
    assert max(found["features"]) < 10
    with pytest.raises(InputError, match="left to match"):
        pick_random_matched(table, [0, 1, 2, 3, 4, 5], layer=1, seed=0)
