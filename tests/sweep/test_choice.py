"""The choice is made on DEV, by a rule that was fixed before."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from mmie.errors import InputError
from mmie.sweep.choice import check_grid_acts, choose, dev_rows, score_trial

ROLES = {
    "forget": ["hi"], "forget_native": ["hi"], "forget_other_scripts": [], "retain": ["en"],
    "neighbours": [], "kept": ["en"],
}  # fmt: skip
GATES: dict[str, dict[str, Any]] = {
    "forget": {
        "question": "", "metric": "leak", "languages": "forget", "statistic": "transfer",
        "direction": "at_least", "threshold": 0.5, "test": "sign_flip", "family": "efficacy",
        "stop_reason": "below_threshold", "cell": "test",
    },
    "utility": {
        "question": "", "metric": "correct", "languages": "retain", "statistic": "difference",
        "direction": "at_least", "threshold": -0.05, "test": "non_inferiority",
        "family": "preservation", "stop_reason": "utility_loss", "cell": "test",
    },
}  # fmt: skip


def rows(hindi: list[float], english: list[float], **columns: Any) -> pd.DataFrame:
    """Leak of Hindi items and accuracy of English ones; the last two items share a group."""
    tables = []
    for language, values in (("hi", hindi), ("en", english)):
        groups = [*range(len(values) - 1), len(values) - 2]
        tables.append(
            pd.DataFrame(
                {
                    "language": language,
                    "example_id": [f"item{number}" for number in range(len(values))],
                    "group": groups,
                    "seed": 1,
                    "split": "dev",
                    "kind": "direct",
                    "template_split": "trained",
                    "leak": values,
                    "correct": values,
                }
            )
        )
    return pd.concat(tables, ignore_index=True).assign(**columns)


BASE = rows([1, 1, 1], [1, 1, 1])
ORACLE = rows([0, 0, 0], [1, 1, 1])


def test_groups_weigh_alike_and_the_oracle_is_one() -> None:
    # Group 0 leaks, group 1 leaks in one of two items: (1 + 0.5) / 2 = 0.75.
    found = score_trial(rows([1, 1, 0], [1, 1, 1]), BASE, ORACLE, ROLES, GATES)
    assert found["transfer_hi"] == pytest.approx(0.25)
    assert found["admissible"] is True
    assert score_trial(ORACLE, BASE, ORACLE, ROLES, GATES)["s_mem"] == 1.0
    assert score_trial(BASE, BASE, ORACLE, ROLES, GATES)["s_mem"] == 0.0


def test_forgetting_that_costs_a_kept_language_is_not_admissible() -> None:
    found = score_trial(rows([0, 0, 0], [1, 1, 0]), BASE, ORACLE, ROLES, GATES)
    assert found["s_mem"] == 1.0
    assert found["utility_en"] == pytest.approx(-0.25)
    assert found["admissible"] is False


def test_a_missing_score_is_no_permission() -> None:
    found = score_trial(rows([0, 0, 0], [1, 1, float("nan")]), BASE, ORACLE, ROLES, GATES)
    assert found["admissible"] is False


def test_rows_that_are_not_dev_are_refused() -> None:
    with pytest.raises(InputError, match="never reads TEST"):
        score_trial(rows([0, 0, 0], [1, 1, 1], split="test"), BASE, ORACLE, ROLES, GATES)


def test_dev_rows_leave_test_mixed_and_new_wordings_out() -> None:
    table = pd.concat(
        [
            BASE,
            BASE.assign(split="test"),
            BASE.assign(kind="mixed"),
            BASE.assign(template_split="held_out"),
        ]
    )
    assert len(dev_rows(table)) == len(BASE)


def test_other_prompts_are_refused() -> None:
    with pytest.raises(InputError, match="different prompts"):
        score_trial(rows([0, 0], [1, 1]), BASE, ORACLE, ROLES, GATES)


def test_the_best_admissible_trial_is_chosen_and_all_are_counted() -> None:
    table = pd.DataFrame(
        {
            "trial": ["d", "b", "c", "a"],
            "number": [3, 1, 2, 0],
            "s_mem": [0.9, 0.6, 0.6, 0.1],
            "admissible": [False, True, True, True],
        }
    )
    found = choose(table)
    assert found["chosen"] == "b"  # d broke something; b and c tie and the smaller number goes first
    assert (found["trials"], found["admissible"]) == (4, 3)
    assert found["s_mem"]["median"] == pytest.approx(0.6)
    assert found["share_above_threshold"] == 0.5


def test_where_nothing_is_admissible_nothing_is_chosen() -> None:
    table = pd.DataFrame({"trial": ["a"], "number": [0], "s_mem": [1.0], "admissible": [False]})
    assert choose(table)["chosen"] is None
    with pytest.raises(InputError, match="no trials"):
        choose(table.head(0))


# ------------------------------------------------------------------------- keys that must act


def trial(generation: str, **columns: Any) -> pd.DataFrame:
    return rows([1, 1, 0], [1, 1, 1], generation=generation, **columns)


@pytest.mark.regression("ACT-16")
def test_a_swept_key_that_changes_nothing_is_an_error() -> None:
    changes = {f"{rate}-{rank}": {"rate": rate, "rank": rank} for rate in (0.1, 0.2) for rank in (4, 8)}
    tables = {name: trial(f"rate {change['rate']}") for name, change in changes.items()}
    with pytest.raises(InputError, match="sweep: 'rank' changes no generation and no score"):
        check_grid_acts(tables, changes)


@pytest.mark.regression("ACT-16")
def test_keys_that_act_may_give_the_same_score() -> None:
    """Two settings that both forget everything differ in what is said instead."""
    changes = {"a": {"rate": 0.1}, "b": {"rate": 0.2}}
    tables = {"a": trial("nothing"), "b": trial("something")}
    assert check_grid_acts(tables, changes) == {"rate": True}


def test_the_order_of_rows_and_the_name_of_a_trial_are_no_effect() -> None:
    changes = {"a": {"rate": 0.1}, "b": {"rate": 0.2}}
    tables = {"a": trial("same", arm="a"), "b": trial("same", arm="b").iloc[::-1]}
    with pytest.raises(InputError, match="'rate' changes no generation"):
        check_grid_acts(tables, changes)


def test_a_key_that_no_two_trials_differ_in_alone_is_not_known_to_act() -> None:
    changes = {"a": {"rate": 0.1, "rank": 4}, "b": {"rate": 0.2, "rank": 8}}
    tables = {"a": trial("one"), "b": trial("two")}
    assert check_grid_acts(tables, changes) == {"rank": None, "rate": None}
