from __future__ import annotations

import pytest
import torch

from mmie.sae import selection
from mmie.sae.architectures import build
from mmie.sae.gradients import TopKFamily, loss, step_gradients
from mmie.sae.jumprelu import BatchTopKSAE
from mmie.sae.topk import TopKSAE

FAMILY = ("topk", "batchtopk", "matryoshka")


def random_sae(
    architecture: str = "topk", seed: int = 0, width: int = 8, latents: int = 24, k: int = 3
) -> TopKFamily:
    generator = torch.Generator().manual_seed(seed)
    prefixes = (0.25, 0.5, 1.0) if architecture == "matryoshka" else None
    sae = build(architecture, width, latents, k, prefixes).double()
    assert isinstance(sae, TopKSAE | BatchTopKSAE)
    sae.initialise(torch.randn(width, generator=generator), generator)
    with torch.no_grad():
        sae.w_enc += 0.3 * torch.randn(latents, width, generator=generator)
        sae.b_enc += 0.3 * torch.randn(latents, generator=generator)
    return sae


def rows(seed: int = 0, count: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + 100)
    return torch.randn(count, 8, generator=generator).double()


@pytest.mark.parametrize("architecture", FAMILY)
@pytest.mark.parametrize("dead_count", [0, 3, 20])
@pytest.mark.parametrize("shift", [0.0, -3.0])
def test_sparse_gradients_equal_autograd(architecture: str, dead_count: int, shift: float) -> None:
    sae, x = random_sae(architecture), rows()
    dead = torch.zeros(24, dtype=torch.bool)
    dead[torch.arange(dead_count)] = True
    with torch.no_grad():
        # A strong negative bias leaves selected latents at 0, which must then get no gradient.
        sae.b_enc += shift
    value = loss(sae, x, 7.0, dead, 1 / 32)
    value.backward()
    found = step_gradients(sae, x, 7.0, dead, 1 / 32)
    assert float(found.loss) == pytest.approx(value.item(), abs=1e-12)
    for name in ("w_enc", "b_enc", "w_dec", "b_dec"):
        expected = getattr(sae, name).grad
        assert torch.allclose(found.parameters[name], expected, atol=1e-12, rtol=0), name


@pytest.mark.parametrize("architecture", FAMILY)
@pytest.mark.parametrize("cached", [8, 40, 2**20])
def test_gradients_fill_the_memory_they_are_given(
    architecture: str, cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae, x = random_sae(architecture), rows(count=2)
    dead = torch.zeros(24, dtype=torch.bool)
    expected = step_gradients(sae, x, 7.0, dead, 1 / 32)
    # Of 24 latents 6 at most are selected: blocks of 1 and of 5 latents include empty ones.
    monkeypatch.setattr(selection, "CACHED", cached)
    into = torch.full_like(sae.w_dec, torch.nan), torch.full_like(sae.w_enc, torch.nan)
    found = step_gradients(sae, x, 7.0, dead, 1 / 32, into=into)
    assert found.parameters["w_dec"] is into[0]
    assert found.parameters["w_enc"] is into[1]
    for name, gradient in expected.parameters.items():
        assert torch.allclose(found.parameters[name], gradient, atol=1e-14, rtol=0), name


def test_dead_latents_learn_from_the_residual_and_unreachable_ones_do_not() -> None:
    sae, x = random_sae(), rows()
    with torch.no_grad():
        sae.b_enc[:8] = -1.0
        sae.b_enc[4:8] = -1e6
    dead = torch.zeros(24, dtype=torch.bool)
    dead[:8] = True
    with_auxiliary = step_gradients(sae, x, 7.0, dead, 1.0).parameters["w_enc"]
    without = step_gradients(sae, x, 7.0, dead, 0.0).parameters["w_enc"]
    extra = with_auxiliary - without
    assert (extra[:4].abs().sum(1) > 0).any()
    assert (extra[4:8] == 0).all()
    assert (extra[8:] == 0).all()


def test_nested_prefixes_by_hand() -> None:
    sae = build("matryoshka", 2, 2, 2, (0.5, 1.0)).double()
    assert isinstance(sae, BatchTopKSAE)
    with torch.no_grad():
        sae.w_enc.copy_(torch.eye(2))
        sae.w_dec.copy_(torch.eye(2))
    x = torch.tensor([[3.0, 1.0]]).double()
    # The first latent alone misses (0, 1), both together nothing: mean squared errors 1 and 0.
    found = step_gradients(sae, x, 1.0, torch.zeros(2, dtype=torch.bool), 0.0)
    assert float(found.loss) == 0.5


def test_firing_is_a_positive_code() -> None:
    sae = TopKSAE(2, 2, 2)
    with torch.no_grad():
        sae.w_enc.copy_(torch.eye(2))
        sae.w_dec.copy_(torch.eye(2))
    found = step_gradients(sae, torch.tensor([[1.0, -1.0]]), 1.0, torch.zeros(2, dtype=torch.bool), 0.0)
    assert found.fired.tolist() == [True, False]
    assert found.firings == 1
