"""What removing a latent would do to the loss, to first order: code x gradient.

The gradient is taken at the activation, so no parameter of the model needs one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmie.activations.extract import length_buckets
from mmie.errors import InputError
from mmie.models.blocks import input_device
from mmie.models.hooks import edit
from mmie.models.prompts import Batch, collate, encode_all, padding_id
from mmie.sae.autoencoder import SparseAutoencoder, at_block
from mmie.sae.selection import dot_products
from mmie.training.forward import batch_nll

if TYPE_CHECKING:
    import pandas as pd


def attribute(
    model: nn.Module,
    tokenizer: Any,
    rows: Mapping[str, pd.DataFrame],
    sae: SparseAutoencoder,
    layer: int,
    *,
    norm_limit: float = math.inf,
    token_budget: int = 4096,
) -> dict[str, NDArray[np.float64]]:
    """Mean over items of sum_t a_tj <w_j, dL/dh_t>, L the summed loss of the item's answer, [latents].

    Removing latent j changes L by about minus that.

    Args:
        model: the model with its head; its parameters may be frozen and get no gradient.
        tokenizer: its tokenizer.
        rows: items (`prompt`, `answer`) by language.
        sae: the autoencoder, on any device.
        layer: its block.
        norm_limit: rows above this norm are sinks, which the autoencoder never saw.
        token_budget: tokens of a pass.

    Raises:
        InputError: called in inference mode, where no gradient exists, or a language without items.
    """
    if torch.is_inference_mode_enabled():
        raise InputError("attribution: no gradients exist in inference mode. Call it outside of it.")
    special = torch.tensor(sorted(tokenizer.all_special_ids))
    sae = at_block(sae, model, layer)
    found = {}
    for language, table in rows.items():
        if not len(table):
            raise InputError(f"attribution: no items in {language}. Check the filters of the data stage.")
        items = encode_all(tokenizer, table["prompt"].tolist(), table["answer"].tolist())
        total = torch.zeros(sae.latents, dtype=torch.float64)
        for chosen in length_buckets([len(item.ids) for item in items], token_budget):
            batch = collate([items[at] for at in chosen], padding_id(tokenizer))
            total += _of_batch(model, batch, sae, layer, special, norm_limit)
        found[language] = (total / len(table)).numpy()
    return found


def attribution_score(
    attributions: Mapping[str, NDArray[np.float64]], *, forget: Sequence[str], retain: Sequence[str]
) -> NDArray[np.float64]:
    """Predicted rise of the loss when a latent is removed: on forget items minus on retain items."""
    rise = -np.mean([attributions[language] for language in forget], axis=0)
    score: NDArray[np.float64] = rise + np.mean([attributions[language] for language in retain], axis=0)
    return score


def _of_batch(
    model: nn.Module, batch: Batch, sae: SparseAutoencoder, layer: int, special: Tensor, norm_limit: float
) -> Tensor:
    leaves: list[tuple[Tensor, Tensor]] = []

    def cut(hidden: Tensor, keep: Tensor) -> Tensor:
        leaf = hidden.detach().requires_grad_(True)
        leaves.append((leaf, keep))
        return leaf

    batch = batch.to(input_device(model))
    # A frozen model records no graph of its own; the leaf starts one, through the blocks above it.
    with torch.enable_grad(), edit(model, {layer: cut}):
        loss = batch_nll(model, batch)[0].sum()
    leaf, keep = leaves[0]
    (gradient,) = torch.autograd.grad(loss, leaf)
    with torch.no_grad():
        exact = leaf.detach().to(sae.w_dec.dtype)
        ordinary = ~torch.isin(batch.input_ids, special.to(batch.input_ids.device)).to(keep.device)
        kept = keep & ordinary & (exact.norm(dim=-1) <= norm_limit)
        values, indices = sae.encode(exact[kept])
        slopes = dot_products(gradient[kept].to(sae.w_dec.dtype), sae.w_dec, indices)
        total = torch.zeros(sae.latents, dtype=torch.float64, device=values.device)
        total.index_add_(0, indices.flatten(), (values * slopes).flatten().double())
    return total.cpu()
