from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmie.activations.placement import SelectionRules
from mmie.activations.scoring import ScoringOptions, align_items, score_layers
from mmie.activations.selection import Combination, Weights, select
from mmie.errors import InputError

ITEMS = 140
QUICK = ScoringOptions(permutations=30, procrustes_permutations=10, half_samples=20)


def item_table(count: int = ITEMS) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "example_id": [f"f{at}/q1" for at in range(count)],
            "fact_id": [f"f{at}" for at in range(count)],
            "group": [f"g{at // 2}" for at in range(count)],
            "template_id": [f"t{at % 4}" for at in range(count)],
            "tokens": np.random.default_rng(0).integers(5, 20, count),
        }
    )


def planted(
    shared: list[float], apart: list[float], count: int = ITEMS
) -> tuple[dict[str, dict[int, np.ndarray]], dict[str, pd.DataFrame]]:
    """Three languages; layer `i` shares `shared[i]` of its signal and shifts hi by `apart[i]`."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(count, 24))
    sentences = {}
    for language in ("hi", "en", "bn"):
        sentences[language] = {}
        for layer, (together, shift) in enumerate(zip(shared, apart, strict=True)):
            vectors = together * common + rng.normal(size=common.shape)
            vectors[:, 0] += shift * (language == "hi")
            sentences[language][layer] = vectors.astype(np.float32)
    return sentences, {language: item_table(count) for language in sentences}


def test_shared_and_specific_choose_opposite_layers() -> None:
    sentences, items = planted([0.2, 0.4, 2.0, 0.2], [2, 2.5, 0.5, 0.5])
    scores = score_layers(sentences, items, forget=["hi"], options=QUICK)
    assert select(scores, 1, method="specific")["layers"] == [1]
    assert select(scores, 1, method="shared")["layers"] == [2]


@pytest.mark.regression("ACT-08")
def test_a_probe_that_is_perfect_everywhere_is_dropped_by_name() -> None:
    sentences, items = planted([0.2, 0.5, 1.0, 2.0], [50, 50, 50, 50])
    scores = score_layers(sentences, items, forget=["hi"], options=QUICK)
    chosen = select(scores, 1, method="specific")
    assert chosen["components"]["selectivity"] == "dropped: at its maximum at every layer"
    assert chosen["components"]["cka"] == "used"


@pytest.mark.regression("ACT-08")
def test_layers_without_any_difference_are_never_ranked() -> None:
    sentences, items = planted([0.0] * 4, [50] * 4)
    scores = score_layers(sentences, items, forget=["hi"], options=QUICK)
    scores = scores[scores["component"] != "selectivity"]
    scores.loc[:, "excess"] = 0.1
    with pytest.raises(InputError, match="no component"):
        select(scores, 1, method="shared", rules=SelectionRules(replace_unstable=False))
    chosen = select(scores, 1, method="shared")
    assert chosen["used"] == "middle"
    assert not chosen["stable"]
    assert "scores" not in chosen
    assert "no component tells layers apart" in chosen["reasons"][-1]


@pytest.mark.regression("ACT-09")
def test_fewer_items_than_the_minimum_are_an_error() -> None:
    sentences, items = planted([0.2, 2.0], [1, 1], count=50)
    with pytest.raises(InputError, match="50 parallel items"):
        score_layers(sentences, items, forget=["hi"], options=QUICK)


@pytest.mark.regression("ACT-15")
def test_input_order_changes_nothing() -> None:
    sentences, items = planted([0.2, 0.4, 2.0, 0.2], [2, 2, 1, 0])
    scores = score_layers(sentences, items, forget=["hi"], options=QUICK)
    order = np.random.default_rng(0).permutation(ITEMS)
    shuffled = {
        language: {layer: by_layer[layer][order] for layer in (3, 1, 0, 2)}
        for language, by_layer in reversed(sentences.items())
    }
    tables = {language: table.iloc[order] for language, table in items.items()}
    again = score_layers(shuffled, tables, forget=["hi"], options=QUICK)
    pd.testing.assert_frame_equal(scores, again)
    assert select(scores, 1) == select(again.sample(frac=1, random_state=1), 1)
    assert scores.loc[scores["component"] != "retrieval", ["value", "excess", "se"]].notna().all(axis=None)


@pytest.mark.regression("ACT-14")
def test_stability_resamples_items_and_is_reported() -> None:
    sentences, items = planted([0.2, 0.4, 2.0, 0.2], [2, 2.5, 0.5, 0.5])
    scores = score_layers(sentences, items, forget=["hi"], options=QUICK)
    draws = np.stack(scores.loc[scores["component"] == "cka", "half_samples"].tolist())
    assert (draws.std(axis=1) > 0).all()
    chosen = select(scores, 1)
    assert chosen["stable"] and chosen["kendall_tau"] > 0.5
    assert chosen["frequency"]["1"] > 0.5


@pytest.mark.regression("ACT-14")
def test_an_unstable_ranking_gives_the_middle_by_name() -> None:
    sentences, items = planted([0.5, 0.5, 0.5, 0.5], [1, 1, 1, 1])
    scores = score_layers(sentences, items, forget=["hi"], options=QUICK)
    similar = scores["component"].isin(["cka", "procrustes", "anc", "selectivity"])
    # Spread enough not to be dropped, in an order that no half-sample repeats.
    scores.loc[similar, "excess"] = scores.loc[similar, "layer"].map({0: 0.0, 1: 9.0, 2: 4.0, 3: 1.0})
    chosen = select(scores, 1, method="shared")
    assert chosen["used"] == "middle"
    assert chosen["layers"] == [2]
    assert any("unstable" in reason for reason in chosen["reasons"])


@pytest.mark.regression("ACT-04")
def test_items_are_joined_by_id_and_missing_ones_counted() -> None:
    left, right = item_table(), item_table().iloc[10:].sample(frac=1, random_state=0)
    parallel = align_items({"hi": left, "en": right}, ScoringOptions())
    assert len(parallel.cluster) == ITEMS - 10
    assert parallel.unmatched == {"hi": 10, "en": 0}
    ids = [
        table.iloc[parallel.rows[language]]["example_id"].tolist()
        for language, table in {"hi": left, "en": right}.items()
    ]
    assert ids[0] == ids[1]
    with pytest.raises(InputError, match="comes twice"):
        align_items({"hi": pd.concat([left, left.iloc[:1]])}, ScoringOptions())


def test_one_item_a_fact_enters() -> None:
    table = pd.concat([item_table(), item_table().assign(example_id=lambda t: t["fact_id"] + "/q2")])
    parallel = align_items({"hi": table, "en": table}, ScoringOptions())
    assert len(parallel.cluster) == ITEMS


def test_first_and_last_blocks_are_excluded_and_the_gap_is_kept() -> None:
    layers = 12
    rows = []
    for component in ("cka", "procrustes", "anc"):
        for layer in range(layers):
            excess = layer / layers
            noise = np.random.default_rng(layer).normal(0, 0.001, 10)
            rows.append(
                {
                    "layer": layer,
                    "language_a": "hi",
                    "language_b": "en",
                    "component": component,
                    "value": excess,
                    "excess": excess,
                    "half_samples": list(excess + noise),
                }
            )
    scores = pd.DataFrame(rows)
    chosen = select(scores, 3, method="shared")
    assert chosen["layers"] == [6, 8, 10]
    assert chosen["candidates"] == list(range(2, 11))
    assert select(scores, 1, method="middle")["layers"] == [6]
    random = select(scores, 3, method="random", seed=1)["layers"]
    assert random == select(scores, 3, method="random", seed=1)["layers"]
    assert len({tuple(select(scores, 3, method="random", seed=seed)["layers"]) for seed in range(5)}) > 1
    with pytest.raises(InputError, match="do not fit"):
        select(scores, 6, method="shared", rules=SelectionRules(gap=2))


def ranked_scores(wins: dict[tuple[float, ...], int]) -> pd.DataFrame:
    """One component, and how many half-samples score the layers so."""
    draws = np.array([scores for scores, count in wins.items() for _ in range(count)])
    return pd.DataFrame(
        [
            {
                "layer": layer,
                "language_a": "hi",
                "language_b": "en",
                "component": "cka",
                "value": draws[:, layer].mean(),
                "excess": draws[:, layer].mean(),
                "half_samples": list(draws[:, layer]),
            }
            for layer in range(draws.shape[1])
        ]
    )


# Of eight layers, 2 to 6 may be chosen. Layer 5 is best in 70 % of the half-samples, layer 3 in the others.
SEVEN_OF_TEN = {
    (0.0, 0.05, 0.10, 0.80, 0.20, 0.82, 0.30, 0.15): 14,
    (0.0, 0.05, 0.10, 0.82, 0.20, 0.80, 0.30, 0.15): 6,
}


@pytest.mark.regression("ACT-15")
def test_a_tie_of_unequal_layers_goes_to_the_lower_and_is_stable() -> None:
    chosen = select(ranked_scores(SEVEN_OF_TEN), 1, method="shared")
    assert chosen["scores"]["5"] == pytest.approx(7.7) and chosen["scores"]["3"] == pytest.approx(7.3)
    assert chosen["tied"] == {"3": [5]}
    assert chosen["layers"] == [3] and chosen["used"] == "shared" and chosen["stable"]
    assert chosen["frequency"]["3"] == 1


def test_a_vote_takes_what_wins_most_half_samples_and_keeps_every_score() -> None:
    vote = Combination(combine="vote")
    chosen = select(ranked_scores(SEVEN_OF_TEN), 1, method="shared", combination=vote)
    assert chosen["layers"] == [5] and chosen["stable"]
    assert chosen["frequency"]["5"] == pytest.approx(0.7)
    assert chosen["frequency"]["3"] == pytest.approx(0.3)
    assert sorted(chosen["scores"]) == [str(layer) for layer in range(8)]
    even = dict.fromkeys(SEVEN_OF_TEN, 10)
    assert select(ranked_scores(even), 1, method="shared", combination=vote)["layers"] == [3]


def test_average_and_vote_differ_where_a_layer_wins_often_but_loses_high() -> None:
    """Layer 5 is first in 60 % and last but two in 40 %; layer 3 is second always."""
    scores = ranked_scores(
        {
            (0.0, 0.05, 0.10, 0.80, 0.20, 0.90, 0.30, 0.15): 12,
            (0.0, 0.05, 0.20, 0.80, 0.90, 0.10, 0.30, 0.15): 8,
        }
    )
    anyway = SelectionRules(replace_unstable=False)
    vote = select(scores, 1, method="shared", combination=Combination(combine="vote"), rules=anyway)
    average = select(scores, 1, method="shared", rules=anyway)
    assert (vote["layers"], vote["used"]) == ([5], "shared")
    # Means of ranks: layer 3 7.0; layer 5 0.6 * 8 + 0.4 * 3 = 6.0.
    assert average["scores"]["3"] == pytest.approx(7) and average["scores"]["5"] == pytest.approx(6)
    assert average["layers"] == [3]


def test_weights_decide_what_components_count() -> None:
    """Two components that rank eight layers in opposite order: the heavier one decides."""
    rising = tuple(float(at) for at in range(8))
    up, down = ranked_scores({rising: 10}), ranked_scores({rising[::-1]: 10}).assign(component="anc")
    probe = ranked_scores({rising: 10}).assign(component="selectivity", language_b="", value=0.9)
    scores = pd.concat([up, down, probe], ignore_index=True).assign(value=lambda table: table["value"] / 10)

    def chosen(method: str, **weights: float) -> dict[str, Any]:
        combination = Combination(weights=Weights(**weights))
        return select(scores, 1, method=method, combination=combination)  # type: ignore[arg-type]

    assert chosen("shared", cka=3)["layers"] == [6]
    assert chosen("shared", anc=3)["layers"] == [2]
    # Rank of layer 6: (3 * 7 + 1 * 2) / 4.
    assert chosen("shared", cka=3)["scores"]["6"] == pytest.approx(23 / 4)
    only = chosen("shared", cka=0)
    assert only["components"]["cka"] == "dropped: weight 0" and only["layers"] == [2]
    # Dissimilarity by CKA alone ranks layer 6 9 - 7 = 2, the probe 7: with weights 1 and 3, 23 / 4.
    specific = chosen("specific", anc=0, selectivity=3)
    assert specific["layers"] == [6] and specific["scores"]["6"] == pytest.approx(23 / 4)
    alone = chosen("specific", similarity=0)
    assert alone["components"]["anc"] == "dropped: weight 0" and alone["scores"]["6"] == pytest.approx(7)
