from __future__ import annotations

import math

import pytest
import torch

from mmie.errors import InputError
from mmie.sae.architectures import ARCHITECTURES, DESCRIPTIONS, build
from mmie.sae.auxiliary import auxiliary_loss
from mmie.sae.gated import GatedSAE, gate_penalty
from mmie.sae.jumprelu import BatchTopKSAE, JumpReLUSAE, MatryoshkaSAE, firing_count, jump
from mmie.sae.threshold_losses import autograd_gradients, gated_loss, jumprelu_loss

NONE_DEAD = torch.zeros(2, dtype=torch.bool)


def identity(architecture: str, k: int = 1) -> torch.nn.Module:
    sae = build(architecture, 2, 2, k).double()
    with torch.no_grad():
        sae.w_enc.copy_(torch.eye(2))
        sae.w_dec.copy_(torch.eye(2))
    return sae


def randomised(architecture: str, seed: int = 0) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    sae = build(architecture, 8, 32, 4)
    sae.initialise(torch.randn(8, generator=generator), generator)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            if name != "w_dec":
                parameter += 0.1 * torch.rand(parameter.shape, generator=generator)
    return sae.requires_grad_(False)


def test_jumps_and_their_gradients_by_hand() -> None:
    u = torch.tensor([[0.8], [1.2], [2.0]], dtype=torch.float64)
    threshold = torch.ones(1, dtype=torch.float64, requires_grad=True)
    assert jump(u, threshold, 0.5).flatten().tolist() == [0, 1.2, 2.0]
    assert firing_count(u, threshold, 0.5).flatten().tolist() == [0, 1, 1]
    for row, expected in zip(u, (-2.0, -2.0, 0.0), strict=True):
        for function in (jump, firing_count):
            (found,) = torch.autograd.grad(function(row[None], threshold, 0.5).sum(), threshold)
            assert found.item() == expected


def test_pre_activations_feel_a_jump_only_above_it() -> None:
    u = torch.tensor([[0.8, 1.2]], dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(jump(u, torch.ones(2).double(), 0.5).sum(), u)
    assert found.tolist() == [[0, 1]]


def test_the_penalty_of_jumprelu_by_hand() -> None:
    sae = identity("jumprelu")
    assert isinstance(sae, JumpReLUSAE)
    x = torch.tensor([[3.0, 1.0], [2.0, -1.0]]).double()
    # Three codes on two rows, 1.5 for a target of 1; the miss is the negative part, (0, -1), on row 2.
    value, codes = jumprelu_loss(sae, x, 2.0, NONE_DEAD, 0.0, 4.0)
    assert codes.tolist() == [[3, 1], [2, 0]]
    assert value.item() == pytest.approx(0.5 / 2 + 4 * 0.25)


def test_the_loss_of_a_gated_autoencoder_by_hand() -> None:
    sae = identity("gated")
    assert isinstance(sae, GatedSAE)
    with torch.no_grad():
        sae.r_mag.fill_(math.log(2))
    x = torch.tensor([[3.0, -1.0]]).double()
    # Gate values 3 and 0, strengths 6 and 0: e = (-3, -1), the gate's own miss (0, -1).
    value, codes = gated_loss(sae, x, 2.0, NONE_DEAD, 0.0, 0.5)
    assert codes[0].tolist() == pytest.approx([6, 0])
    assert value.item() == pytest.approx((10 + 1 + 0.5 * 3) / 2)


def test_the_gates_own_reconstruction_does_not_move_the_decoder() -> None:
    sae = identity("gated")
    assert isinstance(sae, GatedSAE)
    x = torch.tensor([[3.0, 2.0]]).double()
    value, codes = gated_loss(sae, x, 1.0, NONE_DEAD, 0.0, 0.0)
    found = autograd_gradients(sae, value, codes)
    # The strengths reconstruct exactly, so only the gate's path could pull, and it is exact too.
    assert found.parameters["w_dec"].abs().max() == 0
    with torch.no_grad():
        sae.b_gate += 1
        sae.b_mag += 0
    value, codes = gated_loss(sae, x, 1.0, NONE_DEAD, 0.0, 0.0)
    found = autograd_gradients(sae, value, codes)
    assert value.item() == pytest.approx(2)
    assert found.parameters["w_dec"].abs().max() == 0
    assert found.parameters["b_dec"].abs().max() > 0


@pytest.mark.regression("SAE-28")
def test_one_step_on_the_penalty_alone_lowers_the_gates() -> None:
    sae = randomised("gated").requires_grad_(True)
    assert isinstance(sae, GatedSAE)
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(1))
    before = sae.pre_activations(x).detach()
    gate_penalty(sae.pre_activations(x)).backward()
    with torch.no_grad():
        sae.b_gate -= 0.05 * sae.b_gate.grad
    after = sae.pre_activations(x).detach()
    assert (after <= before).all() and (after < before).any()
    assert (after > 0).sum() < (before > 0).sum()
    closed = torch.tensor([[-2.0]], requires_grad=True)
    (pull,) = torch.autograd.grad(gate_penalty(closed), closed)
    assert pull.item() == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sparse_and_dense_codes_agree(architecture: str) -> None:
    sae = randomised(architecture)
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))
    dense = sae.codes(x) @ sae.w_dec + sae.b_dec
    assert torch.allclose(sae(x), dense, atol=1e-5)
    assert (sae.codes(x) >= 0).all()
    assert 0 < (sae.codes(x) > 0).float().mean() < 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_codes_of_a_row_do_not_depend_on_its_batch(architecture: str) -> None:
    sae = randomised(architecture)
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(1))
    alone = torch.cat([sae.codes(row[None]) for row in x])
    assert torch.allclose(alone, sae.codes(x), atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_folded_scale_changes_nothing_that_fires(architecture: str) -> None:
    scaled, folded = randomised(architecture), randomised(architecture)
    folded.fold_scale(4.0)
    x = torch.randn(30, 8, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(folded(x), scaled(4 * x) / 4, atol=1e-5)
    assert torch.equal(folded.codes(x) > 0, scaled.codes(4 * x) > 0)


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka"])
def test_a_calibrated_threshold_lets_k_latents_fire_on_average(architecture: str) -> None:
    sae = randomised(architecture)
    assert isinstance(sae, BatchTopKSAE)
    x = torch.randn(3000, 8, generator=torch.Generator().manual_seed(1))
    theta = sae.calibrate(x)
    assert (sae.codes(x) > 0).sum() == 4 * len(x)
    assert theta > 0 and torch.equal(sae.threshold, torch.full((32,), theta))


def test_prefixes_are_nested_and_end_with_all_latents() -> None:
    assert MatryoshkaSAE(4, 32, 2).prefixes == [2, 4, 8, 16, 32]
    for wrong in ((0.5,), (0.5, 0.25, 1), (0.001, 1), ()):
        with pytest.raises(InputError, match="prefixes"):
            MatryoshkaSAE(4, 32, 2, wrong)


def test_the_auxiliary_loss_by_hand() -> None:
    # One dead latent of width 2: it alone may explain the miss (2, 0), (0, 2) with its value 1 on row 1.
    u = torch.tensor([[5.0, 1.0], [5.0, -3.0]])
    w_dec = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    error = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    dead = torch.tensor([False, True])
    # Distances: (1 - 2)^2 and 2^2, over the variance about (1, 1), which is 4.
    assert auxiliary_loss(u, w_dec, error, dead, 0.5).item() == pytest.approx(0.5 * 5 / 4)
    assert auxiliary_loss(u, w_dec, error, torch.tensor([False, False]), 0.5).item() == 0


def test_every_architecture_is_described_and_others_are_refused() -> None:
    assert set(DESCRIPTIONS) == set(ARCHITECTURES)
    with pytest.raises(InputError, match="architecture"):
        build("signed_topk", 2, 4, 1)
