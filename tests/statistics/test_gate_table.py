from __future__ import annotations

import pytest

from mmie.errors import InputError
from mmie.statistics.gate_table import read_gates, with_margins

FORGET = {
    "name": "G1", "metric": "leak", "languages": "forget", "statistic": "transfer",
    "direction": "at_least", "threshold": 0.5, "test": "sign_flip", "family": "E",
}  # fmt: skip
UTILITY = {
    "name": "G4", "metric": "correct", "languages": "retain", "statistic": "difference",
    "direction": "at_least", "threshold": -0.02, "test": "non_inferiority", "family": "P",
}  # fmt: skip


def test_a_list_and_a_mapping_say_the_same() -> None:
    by_name = {"G1": {k: v for k, v in FORGET.items() if k != "name"}}
    assert read_gates([FORGET]) == read_gates(by_name)


def test_a_margin_may_be_given_as_such_or_as_a_signed_threshold() -> None:
    given = {**UTILITY, "threshold": None, "margin": 0.02}
    assert read_gates([FORGET, UTILITY]) == read_gates([FORGET, given])
    assert read_gates([FORGET, UTILITY])[1].threshold == -0.02


def test_the_harmful_side_follows_the_direction_then_the_score() -> None:
    gates = read_gates([
        FORGET, UTILITY,
        {**UTILITY, "name": "up", "metric": "gibberish", "direction": "at_most"},
        {**UTILITY, "name": "bits", "metric": "bits_per_byte", "direction": "within"},
        {**UTILITY, "name": "both", "direction": "within", "test": "tost"},
    ])  # fmt: skip
    assert [gate.harm for gate in gates[1:]] == ["down", "up", "up", None]


def test_any_other_cell_is_an_attack() -> None:
    direct, attack, named = read_gates([
        FORGET, {**FORGET, "name": "G9", "cell": "relearn"},
        {**FORGET, "name": "G9b", "statistic": "attack_transfer", "split": "test"},
    ])  # fmt: skip
    assert not direct.of_attack
    assert attack.of_attack and (named.cell, named.statistic) == ("relearn", "transfer")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": "wilcoxon"}, "'wilcoxon' is not known"),
        ({"languages": "enemies"}, "'enemies' is not known"),
        ({"threshold": 0.0}, "0 is no margin"),
        ({"metric": None}, "metric is missing"),
        ({"statistic": "transfer"}, "tests a difference"),
        ({"name": "G1"}, "stands twice"),
    ],
)
def test_an_unusable_gate_is_named(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_gates([FORGET, {**UTILITY, **change}])


@pytest.mark.regression("STA-16")
def test_leaving_out_the_forget_gates_is_refused() -> None:
    with pytest.raises(InputError, match="no required gate of family efficacy"):
        read_gates([UTILITY, {**FORGET, "required": False}])


def test_a_margin_from_dev_keeps_the_side_of_its_threshold() -> None:
    gate = with_margins(read_gates([FORGET, UTILITY]), {"G4": {"used": 0.04}})[1]
    assert (gate.margin, gate.threshold) == (0.04, -0.04)
