from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.errors import InputError
from mmie.training.batches import CyclicBatches, Examples


@pytest.mark.regression("DAT-17")
def test_an_empty_set_raises_instead_of_spinning(toy_rows: Any, toy_tokenizer: Any) -> None:
    start = time.monotonic()
    with pytest.raises(InputError, match="empty"):
        CyclicBatches([], 4, seed=1)
    with pytest.raises(InputError, match="forget: the set is empty"):
        Examples.from_rows(toy_rows("xx").head(0), toy_tokenizer, name="forget")
    assert time.monotonic() - start < 1


@pytest.mark.regression("DAT-18")
def test_every_pass_has_its_own_order_and_the_same_rows() -> None:
    draws = CyclicBatches(["xx"] * 20, 5, seed=1)
    first = [row for _ in range(4) for row in next(draws)]
    second = [row for _ in range(4) for row in next(draws)]
    assert first != second
    assert sorted(first) == sorted(second) == list(range(20))


@pytest.mark.regression("DAT-18")
def test_one_batch_is_alive_at_a_time(toy_rows: Any, toy_tokenizer: Any) -> None:
    import gc
    import weakref

    examples = Examples.from_rows(toy_rows("xx"), toy_tokenizer)
    alive: list[weakref.ref[torch.Tensor]] = []
    for rows, _ in zip(CyclicBatches(examples.languages, 4, seed=1), range(6), strict=False):
        batch = examples.batch(rows)
        alive.append(weakref.ref(batch.input_ids))
        gc.collect()
        assert sum(reference() is not None for reference in alive) == 1


@pytest.mark.regression("RES-06", "RES-07")
@given(count=st.integers(1, 30), size=st.integers(1, 9), kill=st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_order_after_a_kill_is_that_of_an_uninterrupted_run(count: int, size: int, kill: int) -> None:
    languages = ["xx" if row % 3 else "yy" for row in range(count)]
    whole = CyclicBatches(languages, size, seed=7)
    expected = [next(whole) for _ in range(kill + 5)]
    stopped = CyclicBatches(languages, size, seed=7)
    before = [next(stopped) for _ in range(kill)]
    resumed = CyclicBatches(languages, size, seed=7, position=stopped.position)
    drawn = [*before, *(next(resumed) for _ in range(5))]
    assert drawn == expected
    flat = [row for batch in drawn for row in batch]
    for epoch in range(len(flat) // count):
        assert sorted(flat[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_weights_set_the_share_of_a_language_and_starve_no_row() -> None:
    languages = ["xx"] * 30 + ["yy"] * 10
    draws = CyclicBatches(languages, 8, seed=3, weights={"xx": 1.0, "yy": 3.0})
    seen = Counter(row for _ in range(50) for row in next(draws))
    drawn = Counter(languages[row] for row in seen.elements())
    assert drawn["yy"] / drawn["xx"] == pytest.approx(3.0, abs=0.1)
    assert set(seen) == set(range(40))
    # Within a language the rows come equally often.
    assert max(seen[row] for row in range(30)) - min(seen[row] for row in range(30)) <= 1


def test_weights_must_name_every_language() -> None:
    with pytest.raises(InputError, match="missing \\['yy'\\]"):
        CyclicBatches(["xx", "yy"], 2, seed=1, weights={"xx": 1.0})


def test_another_seed_gives_another_order() -> None:
    assert next(CyclicBatches(["xx"] * 50, 10, seed=1)) != next(CyclicBatches(["xx"] * 50, 10, seed=2))


@pytest.mark.regression("TRN-24")
def test_a_batch_is_as_wide_as_its_longest_row(toy_rows: Any, toy_tokenizer: Any) -> None:
    examples = Examples.from_rows(toy_rows("xx"), toy_tokenizer)
    for rows in ([0], [0, 1], [3, 5, 8]):
        widest = max(len(examples.encoded[row].ids) for row in rows)
        assert examples.batch(rows).input_ids.shape == (len(rows), widest)


def test_a_row_longer_than_the_model_reads_is_named(toy_rows: Any, toy_tokenizer: Any) -> None:
    rows = toy_rows("xx")
    rows.loc[2, "prompt"] = " ".join(["w9"] * 40)
    with pytest.raises(InputError, match=r"fact2/q1 has \d+ tokens, the model reads 32"):
        Examples.from_rows(rows, toy_tokenizer, longest=32)
