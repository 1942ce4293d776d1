from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.sae import selection
from mmie.sae.selection import (
    Screen,
    _pair_products_fused,
    _pair_products_gathered,
    _places_of_largest,
    largest,
    select_per_batch,
    select_per_row,
)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(1, 6), st.sampled_from([8, 32, 256, 509]))
def test_grouped_selection_equals_a_full_sort(seed: int, k: int, columns: int) -> None:
    u = torch.randn(7, columns, generator=torch.Generator().manual_seed(seed))
    values, indices = largest(u, k)
    assert torch.equal(values.sort(descending=True).values, u.sort(descending=True).values[:, :k])
    assert torch.equal(u.gather(1, indices), values)
    assert all(len(set(row)) == k for row in indices.tolist())


SPECIAL = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-40, -3e38, float("inf"), -float("inf")])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(SPECIAL, st.floats(-100, 100, width=32)), min_size=1, max_size=20), st.data())
def test_places_hold_the_largest_values(dtype: torch.dtype, values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    rows = torch.tensor([values, values[::-1]], dtype=dtype)
    for given_rows in (rows, rows.T.contiguous().T):
        places = _places_of_largest(given_rows, k)
        found = rows.gather(1, places).sort(descending=True).values
        assert torch.equal(found, rows.sort(descending=True).values[:, :k])
        assert all(len(set(row)) == k for row in places.tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_no_number_is_selected(dtype: torch.dtype) -> None:
    u = torch.randn(3, 400, generator=torch.Generator().manual_seed(0)).to(dtype)
    u[1, 7] = torch.tensor(float("inf")).sub(float("inf"))
    u[2, 9] = -u[1, 7]
    values, indices = largest(u, 2)
    assert 7 in indices[1].tolist() and 9 in indices[2].tolist()
    assert values.isnan().sum() == 2


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(1, 4), st.integers(1, 200))
def test_a_batch_keeps_its_largest_values_wherever_they_are(seed: int, k: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # One row holds most of the large values, which a sample of rows may miss.
    u = torch.randn(rows, 40, generator=generator)
    u[rows // 2] += 5
    found = select_per_batch(u, k)
    expected = u.flatten().sort(descending=True).values[: k * rows]
    assert torch.equal(found.values.sort(descending=True).values, expected)
    assert torch.equal(u[found.rows, found.latents], found.values)
    assert (found.rows.diff() >= 0).all()


def test_selected_by_hand() -> None:
    u = torch.tensor([[3.0, 1.0], [0.5, 0.2]])
    found = select_per_batch(u, 1)
    assert (found.rows.tolist(), found.latents.tolist(), found.values.tolist()) == ([0, 0], [0, 1], [3, 1])


def test_a_screen_selects_what_a_full_product_does_but_for_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 64, generator=generator)
    weights = torch.nn.functional.normalize(torch.randn(512, 64, generator=generator))
    bias = 0.1 * torch.randn(512, generator=generator)
    u = x @ weights.T + bias
    exact, screened = select_per_row(u, 16), Screen().select(x, weights, bias, 16)
    assert torch.allclose(u[screened.rows, screened.latents], screened.values, atol=1e-5)
    pairs = [set(zip(one.rows.tolist(), one.latents.tolist(), strict=True)) for one in (exact, screened)]
    assert len(pairs[0] & pairs[1]) >= 0.98 * len(pairs[0])
    least = u.sort(descending=True).values[:, 15]
    # Inputs of length 8 and weights of length 1, each rounded to 8 bits, and a result that is once more.
    rounding = 4 * 2**-8
    for row, latent in pairs[0] - pairs[1]:
        assert u[row, latent] - least[row] < rounding
    for row, latent in pairs[1] - pairs[0]:
        assert least[row] - u[row, latent] < rounding


def test_a_screen_that_was_used_before_selects_as_a_new_one() -> None:
    generator = torch.Generator().manual_seed(0)
    used = Screen()
    for rows, latents in ((20, 512), (50, 512), (7, 512), (50, 256)):
        x = torch.randn(rows, 64, generator=generator)
        weights, bias = (
            torch.randn(latents, 64, generator=generator),
            torch.randn(latents, generator=generator),
        )
        old, new = used.select(x, weights, bias, 4), Screen().select(x, weights, bias, 4)
        assert torch.equal(old.rows, new.rows)
        assert torch.equal(old.latents, new.latents)
        assert torch.equal(old.values, new.values)


@pytest.mark.parametrize("cached", [2**20, 0])
def test_the_fused_products_equal_the_portable_ones(cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "CACHED", cached)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 8, generator=generator).double()
    weights = torch.randn(24, 8, generator=generator).double()
    rows = torch.arange(300).repeat_interleave(3)
    indices = torch.randint(0, 24, (900,), generator=generator)
    fused = _pair_products_fused(x, weights, rows, indices)
    assert torch.allclose(fused, _pair_products_gathered(x, weights, rows, indices), atol=1e-12)
    # Rows without a pair are allowed.
    some = rows[rows % 2 == 0]
    few = _pair_products_fused(x, weights, some, indices[: len(some)])
    assert torch.allclose(few, (weights[indices[: len(some)]] * x[some]).sum(1), atol=1e-12)
    assert few.numel() == pytest.approx(450)
