from __future__ import annotations

import pytest
import torch

from mmie.sae.centre import geometric_median


def test_far_rows_move_the_mean_but_not_the_median() -> None:
    x = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) + 2
    far = x.clone()
    far[:20] += 1000
    assert (far.mean(0) - 2).norm() > 50
    assert (geometric_median(far) - 2).norm() < 0.5


def test_the_median_has_the_smallest_summed_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=generator).double().exp()
    found = geometric_median(x)
    best = (x - found).norm(dim=1).sum()
    for _ in range(20):
        step = 1e-2 * torch.randn(3, generator=generator).double()
        assert (x - found - step).norm(dim=1).sum() > best


def test_the_middle_of_three_points_on_a_line() -> None:
    x = torch.tensor([[0.0], [1.0], [10.0]])
    assert geometric_median(x).item() == pytest.approx(1, abs=1e-3)
    assert geometric_median(torch.ones(4, 2)).tolist() == [1, 1]
