from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mmie.errors import InputError
from mmie.statistics.cells import attack_cells, build_cells, with_derived_scores


def rows(arm: str = "base", seed: int = 0, **changes: object) -> pd.DataFrame:
    table = pd.DataFrame({
        "arm": arm, "seed": seed, "language": "hi", "split": "test", "kind": "direct",
        "example_id": ["f2/q1", "f1/q2", "f1/q1"], "group": ["f2", "f1", "f1"],
        "leak": [1.0, 0.0, 1.0],
        "answer_state": ["correct", "refusal", "other_language"],
    })  # fmt: skip
    return table.assign(**changes)


def test_items_are_sorted_by_cluster_and_id_whatever_the_order_of_rows() -> None:
    cell = build_cells(pd.concat([rows(), rows("arm").iloc[::-1]]))[("hi", "test")]
    assert cell.items == ("f1/q1", "f1/q2", "f2/q1") and cell.clusters == ("f1", "f1", "f2")
    assert cell.column("arm", "leak")[:, 0, 0].tolist() == [1, 0, 1]
    assert np.array_equal(cell.column("arm", "leak"), cell.column("base", "leak"))


def test_direct_prompts_go_by_split_and_others_by_kind() -> None:
    table = pd.concat([
        rows(), rows(split="dev", example_id=list("abc")),
        rows(kind="mixed", example_id=list("def")),
        rows(kind="mixed", split="dev", example_id=list("ghi")),
    ])  # fmt: skip
    assert [name for _, name in build_cells(table)] == ["dev", "mixed", "mixed_dev", "test"]


def test_states_become_shares_that_are_never_missing() -> None:
    derived = with_derived_scores(rows())
    assert derived["refusal"].tolist() == [0, 1, 0]
    assert derived["other_language"].tolist() == [0, 0, 1]
    assert derived["in_language"].tolist() == [1, 1, 0]


@pytest.mark.regression("EVA-04")
def test_arms_scored_on_different_items_are_not_compared() -> None:
    with pytest.raises(InputError, match="different items"):
        build_cells(pd.concat([rows(), rows("arm").iloc[:2]]))


def test_arms_that_disagree_on_clusters_are_not_compared() -> None:
    with pytest.raises(InputError, match="clusters"):
        build_cells(pd.concat([rows(), rows("arm", group=["f9", "f1", "f1"])]))


@pytest.mark.regression("STA-13")
def test_a_row_that_stands_twice_is_refused() -> None:
    with pytest.raises(InputError, match="twice"):
        build_cells(pd.concat([rows(), rows().iloc[:1]]))


@pytest.mark.regression("STA-13")
def test_seeds_are_matched_item_by_item_and_no_row_is_gained() -> None:
    cell = build_cells(pd.concat([rows(), rows("arm", 1), rows("arm", 2)]))[("hi", "test")]
    assert cell.scores["arm"].shape[:2] == (3, 2) and cell.seeds["arm"] == (1, 2)


@pytest.mark.regression("EVA-03")
def test_arms_decoded_differently_are_not_compared() -> None:
    with pytest.raises(InputError, match="decoding_hash"):
        build_cells(pd.concat([rows(decoding_hash="a"), rows("arm", decoding_hash="b")]))


def test_an_infinite_score_is_missing() -> None:
    cell = build_cells(rows(bits_per_byte=[1.0, np.inf, 2.0]))[("hi", "test")]
    assert cell.measured(["base"], "bits_per_byte").sum() == 2


@pytest.mark.parametrize("wrong", [-0.2, 1.5])
def test_a_rate_outside_zero_and_one_is_an_error(wrong: float) -> None:
    with pytest.raises(InputError, match=r"outside \[0, 1\]"):
        build_cells(rows(leak=[0.0, wrong, 1.0]))


def test_an_unknown_answer_state_is_an_error() -> None:
    with pytest.raises(InputError, match="'asleep' is not known"):
        build_cells(rows(answer_state="asleep"))


def test_missing_columns_and_empty_tables_are_named() -> None:
    with pytest.raises(InputError, match="'group'"):
        build_cells(rows().drop(columns="group"))
    with pytest.raises(InputError, match="no rows"):
        build_cells(rows().iloc[:0])


def attack(steps: tuple[int, ...], leaks: tuple[float, ...], arm: str = "base") -> pd.DataFrame:
    return pd.DataFrame({
        "attack": "relearn", "arm": arm, "seed": 0, "step": steps, "example_id": "a",
        "group": "g", "language": "hi", "leak": leaks,
    })  # fmt: skip


def test_an_attack_is_scored_after_its_last_step() -> None:
    cell = attack_cells(attack((0, 1, 3), (0.0, 1.0, 0.5)))[("hi", "relearn")]
    assert cell.column("base", "leak").ravel().tolist() == [0.5]


def test_the_area_is_taken_over_the_logarithm_of_steps() -> None:
    # log2(1 + step) = 0, 1, 2: trapezoids 0.5 and 0.75 over a width of 2
    cell = attack_cells(attack((0, 1, 3), (0.0, 1.0, 0.5)), at="area")[("hi", "relearn")]
    assert cell.column("base", "leak").ravel().tolist() == [pytest.approx(0.625)]


def test_a_missing_step_leaves_the_area_missing() -> None:
    cell = attack_cells(attack((0, 1, 3), (0.0, np.nan, 0.5)), at="area")[("hi", "relearn")]
    assert np.isnan(cell.column("base", "leak")).all()


def test_arms_attacked_with_different_steps_are_not_compared() -> None:
    table = pd.concat([attack((0, 1), (0, 1)), attack((0, 2), (0, 1), arm="arm")])
    with pytest.raises(InputError, match="Attack all arms alike"):
        attack_cells(table)
