from __future__ import annotations

import numpy as np
import pytest

from mmie.activations.probes import ProbeTask, auc, probe
from mmie.errors import InputError


def task_of(items: int, kinds: int = 8) -> ProbeTask:
    """Two languages of `items` items, `kinds` templates each."""
    item = np.arange(items)
    return ProbeTask(
        positive=np.repeat([True, False], items),
        group=np.tile(item, 2),
        kind=np.concatenate([item % kinds, kinds + item % kinds]),
    )


def test_auc_by_hand() -> None:
    scores = np.array([0.1, 0.4, 0.35, 0.8])
    positive = np.array([False, False, True, True])
    assert auc(scores, positive) == 0.75
    assert auc(np.zeros(4), positive) == 0.5
    assert np.isnan(auc(scores, np.zeros(4, bool)))


@pytest.mark.regression("ACT-08")
def test_a_separable_language_has_auc_one_and_selectivity_below_its_control() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(240, 10))
    task = task_of(120)
    vectors[:, 0] += 20 * task.positive
    result = probe(vectors, task, rng)
    assert result.auc == 1
    assert result.control_auc < 0.75
    assert result.selectivity == result.auc - result.control_auc


def test_noise_carries_no_language() -> None:
    rng = np.random.default_rng(0)
    result = probe(rng.normal(size=(600, 10)), task_of(300), rng)
    assert abs(result.auc - 0.5) < 0.08


def test_control_labels_that_can_be_memorised_lower_selectivity() -> None:
    rng = np.random.default_rng(0)
    task = task_of(160)
    language_only = rng.normal(size=(320, 20))
    language_only[:, 0] += 20 * task.positive
    with_template = language_only.copy()
    with_template[np.arange(320), 2 + task.kind] += 20
    plain = probe(language_only, task, np.random.default_rng(1))
    memorised = probe(with_template, task, np.random.default_rng(1))
    assert memorised.auc > 0.99
    assert memorised.control_auc > 0.95
    assert memorised.selectivity < plain.selectivity


def test_items_are_split_across_languages_so_that_translations_cannot_leak() -> None:
    # Every item has its own dimension; only a leak of an item to both sides could be read from it.
    rng = np.random.default_rng(0)
    task = task_of(40)
    vectors = np.concatenate([np.eye(40), np.eye(40)]) * 10
    result = probe(vectors, task, rng)
    assert result.auc == 0.5


def test_one_language_or_too_few_items_are_refused() -> None:
    task = task_of(3)
    with pytest.raises(InputError, match="3 items"):
        probe(np.zeros((6, 2)), task, np.random.default_rng(0))
    single = ProbeTask(np.ones(8, bool), np.arange(8), np.arange(8))
    with pytest.raises(InputError, match="one language"):
        probe(np.zeros((8, 2)), single, np.random.default_rng(0))
