"""A ledger of who read TEST: once for each frozen configuration.

TEST judges what DEV chose. Read again after a look at its result, under the same configuration, it can
only be read for another reason than to judge; under another configuration the reading is counted.
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
def reading_of_test(ledger: str | Path, *, configuration: str, ids: str) -> Iterator[int]:
    """Enter a reading of TEST into the ledger, and mark it finished when the block ends well.

    A reading that was begun and never finished (a killed job) may be repeated: nobody saw its result.

    Args:
        ledger: JSON file of all readings, made when it is missing.
        configuration: hash of everything that decides the result, code included.
        ids: hash of the ids that are read.

    Yields:
        How many different configurations have read TEST, this one included.

    Raises:
        InputError: this configuration has read TEST before, or it read other ids.
    """
    path = Path(ledger)
    readings: dict[str, dict[str, Any]] = read_json(path) if path.exists() else {}
    before = readings.get(configuration)
    if before and before["finished"]:
        raise InputError(
            f"{path}: this configuration has read TEST at {before['time']}. Its result stands; choose "
            "settings on DEV and freeze another configuration."
        )
    if before and before["ids"] != ids:
        raise InputError(f"{path}: the TEST ids changed under an unchanged configuration. Restore the data.")
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    readings[configuration] = {"ids": ids, "time": moment, "finished": False}
    write_json(path, readings)
    yield len(readings)
    readings[configuration]["finished"] = True
    write_json(path, readings)
