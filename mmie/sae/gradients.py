"""Loss of the TopK family and its gradients without autograd: sums over the latents that fire.

`loss` is the definition, for autograd; `step_gradients` is the same numbers by sparse sums. A test holds
them equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mmie.sae.auxiliary import auxiliary_gradients, auxiliary_loss
from mmie.sae.jumprelu import BatchTopKSAE, MatryoshkaSAE
from mmie.sae.selection import (
    Screen,
    Selection,
    pair_products,
    rows_in_cache,
    select_per_batch,
    select_per_row,
)
from mmie.sae.topk import TopKSAE

TopKFamily = TopKSAE | BatchTopKSAE


@dataclass(frozen=True)
class Gradients:
    """Loss of a batch and its gradients, by name and in the shapes of the parameters."""

    loss: Tensor
    auxiliary: Tensor
    parameters: Mapping[str, Tensor]
    fired: Tensor
    """Latents with a positive code in the batch, [latents], bool."""
    firings: float
    """Mean number of latents that fire per row."""


def loss(sae: TopKFamily, x: Tensor, variance: float, dead: Tensor, weight: float) -> Tensor:
    """Mean squared error over the data's variance, plus the auxiliary loss of dead latents.

    A Matryoshka autoencoder's error is the mean over its nested prefixes.

    Args:
        sae: the autoencoder.
        x: rows, [batch, width].
        variance: mean squared distance of the training rows from their mean, one constant.
        dead: latents that have not fired for long, [latents], bool.
        weight: of the auxiliary loss.
    """
    u = sae.pre_activations(x)
    chosen = _select(sae, u)
    codes = torch.zeros_like(u).index_put((chosen.rows, chosen.latents), chosen.values.relu())
    widths = _widths(sae)
    errors = [x - (codes[:, :width] @ sae.w_dec[:width] + sae.b_dec) for width in widths]
    main = sum(error.square().sum(-1).mean() for error in errors) / (variance * len(widths))
    return main + auxiliary_loss(u, sae.w_dec, errors[-1], dead, weight)


@torch.no_grad()
def step_gradients(
    sae: TopKFamily,
    x: Tensor,
    variance: float,
    dead: Tensor,
    weight: float,
    *,
    screen: Screen | None = None,
    into: tuple[Tensor, Tensor] | None = None,
) -> Gradients:
    """Value and gradients of `loss`; arguments as there.

    Args:
        screen: chooses the latents of a TopK autoencoder in its place.
        into: memory that the gradients of decoder and encoder are written to, each [latents, width];
            None: fresh memory.
    """
    centred = x - sae.b_dec
    if screen is not None and isinstance(sae, TopKSAE):
        chosen = screen.select(centred, sae.w_enc, sae.b_enc, sae.k)
    else:
        chosen = _select(sae, torch.addmm(sae.b_enc, centred, sae.w_enc.T))
    bags, chosen = _bags(sae, chosen, len(x))
    levels = len(_widths(sae))
    firing = chosen.values > 0
    codes = chosen.values.relu()
    starts = torch.searchsorted(bags, torch.arange(levels * len(x), device=x.device))
    parts = functional.embedding_bag(
        chosen.latents, sae.w_dec, starts, per_sample_weights=codes, mode="sum"
    ).view(levels, *x.shape)
    errors = centred - (parts if levels == 1 else parts.cumsum(0))
    main = errors.square().sum() / (len(x) * levels * variance)
    # A latent of level g writes into the prefixes g, g + 1, ...
    grad_out = errors * (-2 / (len(x) * levels * variance))
    if levels > 1:
        grad_out = grad_out.flip(0).cumsum(0).flip(0)
    grad_bias = grad_out[0].sum(0)
    grad_out = grad_out.reshape(-1, sae.width)
    grad_code = pair_products(grad_out, sae.w_dec, bags, chosen.latents) * firing
    w_dec, w_enc = into or (torch.empty_like(sae.w_dec), torch.empty_like(sae.w_enc))
    b_enc = _weight_gradients(chosen, bags, (codes, grad_out, w_dec), (grad_code, centred, w_enc))
    auxiliary, extra = auxiliary_gradients(sae, errors[-1], centred, dead, weight)
    if extra is not None:
        w_dec[dead] += extra.w_dec
        w_enc[dead] += extra.w_enc
        b_enc[dead] += extra.b_enc
    fired = torch.zeros(sae.latents, dtype=torch.bool, device=x.device)
    fired[chosen.latents[firing]] = True
    parameters = {"w_enc": w_enc, "b_enc": b_enc, "w_dec": w_dec, "b_dec": grad_bias - b_enc @ sae.w_enc}
    if isinstance(sae, BatchTopKSAE):
        parameters["threshold"] = torch.zeros_like(sae.threshold)
    return Gradients(main + auxiliary, auxiliary, parameters, fired, float(firing.sum()) / len(x))


def _select(sae: TopKFamily, u: Tensor) -> Selection:
    return select_per_row(u, sae.k) if isinstance(sae, TopKSAE) else select_per_batch(u, sae.k)


def _widths(sae: TopKFamily) -> list[int]:
    return sae.prefixes if isinstance(sae, MatryoshkaSAE) else [sae.latents]


def _bags(sae: TopKFamily, chosen: Selection, batch: int) -> tuple[Tensor, Selection]:
    """The bag of each pair (its row, and for nested prefixes its level), and the pairs in their order."""
    if not isinstance(sae, MatryoshkaSAE):
        return chosen.rows, chosen
    edges = torch.tensor(sae.prefixes, device=chosen.latents.device)
    bags = torch.bucketize(chosen.latents, edges, right=True) * batch + chosen.rows
    bags, order = bags.sort(stable=True)
    return bags, Selection(chosen.rows[order], chosen.latents[order], chosen.values[order])


def _weight_gradients(
    chosen: Selection,
    bags: Tensor,
    decoder: tuple[Tensor, Tensor, Tensor],
    encoder: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """Gradients of decoder, encoder and encoder bias: sums over the rows where a latent is selected.

    One sort serves both weight matrices, since both are touched at the same places.

    Args:
        chosen: selected pairs.
        bags: of each pair, its row in the decoder's gradient.
        decoder: codes [pairs], gradient of the reconstruction [bags, width], and where the decoder's
            gradient is written, [latents, width].
        encoder: gradient of the codes [pairs], centred rows [batch, width], and where the encoder's is.

    Returns:
        The gradient of the encoder bias, [latents].
    """
    codes, grad_out, w_dec = decoder
    grad_code, centred, w_enc = encoder
    ordered, order = chosen.latents.sort(stable=True)
    starts = torch.searchsorted(ordered, torch.arange(len(w_dec) + 1, device=ordered.device))
    pulls = grad_code[order]
    _sums_by_latent(starts, bags[order], codes[order], grad_out, w_dec)
    _sums_by_latent(starts, chosen.rows[order], pulls, centred, w_enc)
    return torch.zeros(len(w_dec), dtype=pulls.dtype, device=pulls.device).index_add_(0, ordered, pulls)


def _sums_by_latent(starts: Tensor, rows: Tensor, weights: Tensor, values: Tensor, into: Tensor) -> None:
    """into[j] = sum of weights[p] values[rows[p]] over the pairs p from starts[j] to starts[j + 1].

    Some latents at a time: their sums then come from memory that was used before.
    """
    at_once = rows_in_cache(into)
    for first in range(0, len(into), at_once):
        last = min(first + at_once, len(into))
        begin, end = int(starts[first]), int(starts[last])
        into[first:last] = functional.embedding_bag(
            rows[begin:end],
            values,
            starts[first:last] - begin,
            per_sample_weights=weights[begin:end],
            mode="sum",
        )
