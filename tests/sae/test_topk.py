from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.errors import InputError
from mmie.sae.topk import TopKSAE


def identity_sae(k: int = 1) -> TopKSAE:
    sae = TopKSAE(2, 2, k)
    with torch.no_grad():
        sae.w_enc.copy_(torch.eye(2))
        sae.w_dec.copy_(torch.eye(2))
    return sae.requires_grad_(False)


def random_sae(width: int = 8, latents: int = 32, k: int = 4, seed: int = 0) -> TopKSAE:
    generator = torch.Generator().manual_seed(seed)
    sae = TopKSAE(width, latents, k)
    sae.initialise(torch.randn(width, generator=generator), generator)
    return sae.requires_grad_(False)


def test_the_largest_latent_reconstructs_alone() -> None:
    sae = identity_sae()
    x = torch.tensor([[3.0, 1.0], [1.0, 3.0]])
    assert sae(x).tolist() == [[3, 0], [0, 3]]
    error = (x - sae(x)).square().sum()
    assert error / (x - x.mean(0)).square().sum() == 0.5


def test_a_latent_selected_at_zero_does_not_fire() -> None:
    values, _ = identity_sae(k=2).encode(torch.tensor([[2.0, -1.0]]))
    assert sorted(values[0].tolist()) == [0, 2]
    assert (identity_sae(k=2).codes(torch.tensor([[2.0, -1.0]])) > 0).sum() == 1


@pytest.mark.regression("SAE-01")
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.integers(1, 6))
def test_at_most_k_codes_are_positive_and_none_is_negative(seed: int, k: int) -> None:
    sae = random_sae(k=k, seed=seed)
    codes = sae.codes(torch.randn(10, 8, generator=torch.Generator().manual_seed(seed)))
    assert ((codes > 0).sum(-1) <= k).all()
    assert (codes >= 0).all()


def test_sparse_decoding_equals_dense_decoding() -> None:
    sae = random_sae()
    x = torch.randn(3, 5, 8)
    dense = sae.codes(x) @ sae.w_dec + sae.b_dec
    assert torch.allclose(sae(x), dense, atol=1e-5)
    features = torch.tensor([5, 0])
    assert torch.equal(sae.codes_of(x, features), sae.codes(x)[..., features])
    assert torch.equal(sae.decoder_rows(features), sae.w_dec[features])


def test_a_row_alone_has_the_codes_it_has_in_a_batch() -> None:
    sae = random_sae()
    x = torch.randn(20, 8)
    together = sae.codes(x)
    alone = torch.cat([sae.codes(row[None]) for row in x])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.equal(together > 0, alone > 0)


def test_folding_the_input_scale_changes_neither_selection_nor_result() -> None:
    scaled, folded = random_sae(), random_sae()
    scale = 4.0
    with torch.no_grad():
        folded.b_enc.normal_(generator=torch.Generator().manual_seed(1))
        scaled.load_state_dict(folded.state_dict())
    folded.fold_scale(scale)
    x = torch.randn(10, 8)
    assert torch.allclose(folded(x), scaled(x * scale) / scale, atol=1e-5)
    assert torch.equal(folded.codes(x) > 0, scaled.codes(x * scale) > 0)


def test_k_outside_the_latents_is_refused() -> None:
    with pytest.raises(InputError, match=r"sae\.k"):
        TopKSAE(4, 8, 9)
