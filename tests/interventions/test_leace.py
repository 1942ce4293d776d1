"""The guarantee of LEACE, by routes that are not LEACE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import Tensor

from mmie.activations.moments import Moments
from mmie.errors import InputError
from mmie.interventions import FitData
from mmie.interventions.leace import Eraser, fit_eraser, shrunk

WIDTH = 24


def classes(rows: int, seed: int = 0, number: int = 3, distance: float = 3.0) -> tuple[Tensor, Tensor]:
    """Correlated Gaussian rows of three classes whose means lie `distance` deviations apart."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    label = torch.randint(number, (rows,), generator=generator)
    means = torch.randn(number, WIDTH, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    x = torch.randn(rows, WIDTH, generator=generator, dtype=torch.float64) + distance * means[label]
    return x @ mixing + 5, label


def moments_of(x: Tensor, label: Tensor, batches: int = 1) -> Moments:
    moments = Moments(x.shape[1], int(label.max()) + 1)
    for rows, own in zip(x.chunk(batches), label.chunk(batches), strict=True):
        for at in range(len(moments.count)):
            moments.update(rows[own == at], at)
    return moments


def one_hot(label: Tensor) -> np.ndarray:
    return np.asarray(torch.nn.functional.one_hot(label).double())


@pytest.mark.parametrize("shrink", [True, False])
def test_after_erasure_a_linear_probe_is_a_constant(shrink: bool) -> None:
    x, label = classes(4000)
    erased = fit_eraser(moments_of(x, label), shrink=shrink)(x)
    before = LinearRegression().fit(x, one_hot(label))
    after = LinearRegression().fit(erased, one_hot(label))
    assert np.abs(before.coef_).max() > 1e-3
    # Erased rows have a null space, in which a coefficient means nothing: predictions are compared.
    assert np.ptp(after.predict(erased), axis=0).max() < 1e-6


def test_a_fresh_probe_on_held_out_rows_is_at_chance() -> None:
    eraser = fit_eraser(moments_of(*classes(WIDTH * 400, seed=1)))
    train, test = classes(3000, seed=2), classes(3000, seed=3)
    accuracy = {}
    for name, change in (("before", lambda rows: rows), ("after", eraser)):
        probe = LogisticRegression(max_iter=500).fit(change(train[0]), train[1])
        accuracy[name] = probe.score(change(test[0]), test[1])
    assert accuracy["before"] > 0.95
    assert accuracy["after"] < 1 / 3 + 0.06


def test_streaming_equals_batch() -> None:
    x, label = classes(1000)
    whole = fit_eraser(moments_of(x, label))
    streamed = fit_eraser(moments_of(x, label, batches=37))
    assert torch.allclose(streamed(x), whole(x), atol=1e-9)


def test_streamed_moments_are_those_of_numpy() -> None:
    x, label = classes(500)
    moments = moments_of(x, label, batches=11)
    assert np.allclose(moments.covariance, np.cov(x.T, bias=True))
    z = one_hot(label)
    expected = (x - x.mean(0)).T.numpy() @ (z - z.mean(0)) / len(x)
    assert np.allclose(moments.cross_covariance, expected)


def test_total_variance_does_not_grow_and_the_mean_stays() -> None:
    x, label = classes(4000)
    # Almost no variance where the classes differ makes the oblique projector a long one.
    skewed = x.clone()
    skewed[:, 0] = 0.01 * skewed[:, 0] + label
    skewed[:, 1] = 30 * skewed[:, 0] + skewed[:, 1]
    for rows in (x, skewed):
        erased = fit_eraser(moments_of(rows, label))(rows)
        assert float(erased.var(0, correction=0).sum()) <= float(rows.var(0, correction=0).sum()) * (1 + 1e-9)
        assert torch.allclose(erased.mean(0), rows.mean(0), atol=1e-8)


def test_no_smaller_linear_edit_erases_the_concept() -> None:
    """The orthogonal projector erases too, and moves rows further (Theorem 4.3 of the paper)."""
    x, label = classes(4000)
    moments = moments_of(x, label)
    eraser = fit_eraser(moments, shrink=False)
    columns = torch.linalg.svd(moments.cross_covariance, full_matrices=False)[0][:, :2]
    orthogonal = Eraser(moments.mean, columns, columns.T)
    moved = [float(((change(x) - x) ** 2).sum(1).mean()) for change in (eraser, orthogonal)]
    assert torch.allclose(orthogonal(x)[label == 0].mean(0), orthogonal(x)[label == 1].mean(0), atol=1e-8)
    assert moved[0] < moved[1]


def test_rank_is_classes_minus_one() -> None:
    assert fit_eraser(moments_of(*classes(4000))).left.shape == (WIDTH, 2)


def test_fewer_rows_than_dimensions_is_an_error() -> None:
    with pytest.raises(InputError, match=r"20 rows for 24 dimensions.*at least 192 rows"):
        fit_eraser(moments_of(*classes(20)))


def test_shrinkage_keeps_the_trace_and_vanishes_with_many_rows() -> None:
    x, _ = classes(60)
    covariance = torch.cov(x.T, correction=0)
    few = shrunk(covariance, 60)
    assert float(few.trace()) == pytest.approx(float(covariance.trace()))
    assert float((few - covariance).norm()) > float((shrunk(covariance, 6000) - covariance).norm())


@pytest.mark.parametrize("kind", ["leace", "script_scrub"])
def test_the_arm_erases_its_classes_in_the_stored_stream(
    kind: str, toy_data: FitData, toy_activations: Path, fitted: Any
) -> None:
    from mmie.activations.storage import load_rows

    languages = ["xx", "xx_Latn"] if kind == "script_scrub" else ["xx", "xx_Latn", "yy", "zz"]
    arm = fitted(kind)
    parts = {name: arm.fitted.tensors[f"layers.1.{name}"] for name in ("mean", "left", "right")}
    store = load_rows(toy_activations, 1, languages, "fit")
    edit = arm._edit(arm.fitted.facts["layers"]["1"], parts)
    erased = edit(store[np.arange(len(store))], torch.ones(len(store)))
    means = torch.stack([erased[list(store.range_of(name))].mean(0) for name in languages])
    assert arm.fitted.facts["layers"]["1"]["classes"] == languages
    assert float((means - means.mean(0)).norm()) < 1e-4


def test_a_language_in_one_script_has_no_script_to_scrub(toy_model: Any, toy_data: FitData) -> None:
    from dataclasses import replace

    from mmie.interventions import build

    with pytest.raises(InputError, match="one script only"):
        build({"kind": "script_scrub"}).fit(toy_model, replace(toy_data, forget_languages=("xx",)), seed=1)


def test_shuffled_labels_erase_other_directions(fitted: Any) -> None:
    real = fitted("leace").fitted.tensors["layers.1.right"]
    control = [
        fitted("leace", shuffled=True, seed=seed).fitted.tensors["layers.1.right"] for seed in (1, 1, 2)
    ]
    assert torch.equal(control[0], control[1])
    assert control[0].shape != control[2].shape or not torch.equal(control[0], control[2])
    assert control[0].shape != real.shape or not torch.allclose(control[0], real)
