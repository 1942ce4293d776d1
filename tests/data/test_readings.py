"""TEST is read once for each frozen configuration."""

from __future__ import annotations

import pytest

from mmie.data.readings import reading_of_test
from mmie.errors import InputError
from mmie.io import read_json


@pytest.mark.regression("DAT-05")
def test_a_second_reading_of_one_configuration_is_refused(tmp_path):
    ledger = tmp_path / "readings.json"
    with reading_of_test(ledger, configuration="one", ids="ids", evidence="answers") as number:
        assert number == 1
    with (
        pytest.raises(InputError, match="has read TEST"),
        reading_of_test(ledger, configuration="one", ids="ids", evidence="other answers"),
    ):
        pass
    with reading_of_test(ledger, configuration="two", ids="ids", evidence="answers") as number:
        assert number == 2
    assert all(entry["time"] and entry["ids"] == "ids" for entry in read_json(ledger).values())


def test_the_same_answers_again_are_the_same_reading(tmp_path):
    ledger = tmp_path / "readings.json"
    for configuration in ("one", "two"):
        with reading_of_test(ledger, configuration=configuration, ids="ids", evidence="answers"):
            pass
    before = read_json(ledger)
    with reading_of_test(ledger, configuration="one", ids="ids", evidence="answers") as number:
        assert number == 1
    assert read_json(ledger) == before


def test_a_reading_that_was_killed_may_be_repeated_on_the_same_ids_only(tmp_path):
    ledger = tmp_path / "readings.json"
    with (
        pytest.raises(KeyboardInterrupt),
        reading_of_test(ledger, configuration="one", ids="ids", evidence="answers"),
    ):
        raise KeyboardInterrupt
    with (
        pytest.raises(InputError, match="ids changed"),
        reading_of_test(ledger, configuration="one", ids="others", evidence="answers"),
    ):
        pass
    with reading_of_test(ledger, configuration="one", ids="ids", evidence="answers") as number:
        assert number == 1
