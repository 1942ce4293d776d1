"""A ledger of who read TEST: once for each frozen configuration.

TEST judges what DEV chose. Other answers under the same configuration, after a look at the first ones, can
only be wanted for another reason than to judge. The same answers again, as after a crash, are the same
reading; another configuration is one more, and they are counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmie.errors import InputError
from mmie.io import read_json, write_json


@contextmanager
def reading_of_test(ledger: str | Path, *, configuration: str, ids: str, evidence: str) -> Iterator[int]:
    """Enter a reading of TEST into the ledger, and mark it finished when the block ends well.

    A reading that was begun and never finished (a killed job) may be repeated: nobody saw its result.

    Args:
        ledger: JSON file of all readings, made when it is missing.
        configuration: hash of everything that decides the result, code included.
        ids: hash of the ids that are read.
        evidence: hash of the answers that are read.

    Yields:
        Which configuration this is that reads TEST: 1 for the first.

    Raises:
        InputError: this configuration has read other answers, or other ids, before.
    """
    path = Path(ledger)
    readings: dict[str, dict[str, Any]] = read_json(path) if path.exists() else {}
    before = readings.get(configuration)
    if before and before["finished"] and before["evidence"] != evidence:
        raise InputError(
            f"{path}: this configuration has read TEST at {before['time']}, with other answers. That result "
            "stands: choose settings on DEV and freeze another configuration, or name another experiment."
        )
    if before and before["ids"] != ids:
        raise InputError(f"{path}: the TEST ids changed under an unchanged configuration. Restore the data.")
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    number = before["number"] if before else len(readings) + 1
    first = before["time"] if before else moment
    readings[configuration] = {
        "number": number, "ids": ids, "evidence": evidence, "time": first, "finished": False,
    }  # fmt: skip
    write_json(path, readings)
    yield number
    readings[configuration]["finished"] = True
    write_json(path, readings)
