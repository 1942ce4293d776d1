from __future__ import annotations

import pytest
import torch

from mmie.sae.decorrelation import decoder_overlap, decoder_overlap_gradient


def dense(w_dec: torch.Tensor) -> torch.Tensor:
    """The definition, with the matrix of latents by latents."""
    overlap = (w_dec @ w_dec.T).square()
    off = ~torch.eye(len(w_dec), dtype=torch.bool)
    return overlap[off].mean()


@pytest.mark.regression("SAE-23")
def test_the_overlap_and_its_gradient_equal_the_dense_ones() -> None:
    w_dec = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)).double().requires_grad_(True)
    value = dense(w_dec)
    (gradient,) = torch.autograd.grad(value, w_dec)
    assert decoder_overlap(w_dec).item() == pytest.approx(value.item(), abs=1e-12)
    assert torch.allclose(decoder_overlap_gradient(w_dec), gradient, atol=1e-12)


def test_orthogonal_rows_have_none_and_equal_rows_all() -> None:
    assert decoder_overlap(torch.eye(5)).item() == 0
    assert decoder_overlap(torch.ones(4, 1)).item() == 1


@pytest.mark.regression("SAE-23")
def test_no_matrix_of_latents_by_latents_is_made() -> None:
    latents, width = 4096, 64
    w_dec = torch.randn(latents, width)
    with torch.profiler.profile(
        profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]
    ) as seen:
        decoder_overlap(w_dec)
        decoder_overlap_gradient(w_dec)
    largest = max(event.cpu_memory_usage for event in seen.events())
    # A matrix of latents by latents would take 64 MiB; the gradient takes 1 MiB.
    assert 0 < largest <= 8 * 4 * latents * width
    assert 8 * 4 * latents * width < 4 * latents * latents / 4
