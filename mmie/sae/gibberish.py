"""Text with the letters of a language but none of its words, and what latents do on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import regex
import torch
from torch import Tensor, nn

from mmie.io import seed_from
from mmie.models.blocks import input_device
from mmie.sae.autoencoder import SparseAutoencoder, at_block
from mmie.sae.item_statistics import ItemStatistics, LatentStatistics

if TYPE_CHECKING:
    from collections.abc import Sequence

_LETTER = regex.compile(r"[\p{L}\p{M}]")


def scramble(texts: Sequence[str], seed: int) -> list[str]:
    """The texts with all their letters dealt out anew among all places where letters stood.

    Letters travel with their marks (user-perceived characters), so the script, the lengths of words and
    the punctuation stay, and words do not.

    Args:
        texts: of one written form.
        seed: of the deal.
    """
    split = [regex.findall(r"\X", text) for text in texts]
    places = [
        (row, at) for row, parts in enumerate(split) for at, part in enumerate(parts) if _LETTER.match(part)
    ]
    letters = [split[row][at] for row, at in places]
    order = np.random.default_rng(seed_from("scramble", seed)).permutation(len(letters))
    for (row, at), drawn in zip(places, order, strict=True):
        split[row][at] = letters[drawn]
    return ["".join(parts) for parts in split]


@torch.no_grad()
def statistics_of_texts(
    model: nn.Module,
    tokenizer: Any,
    texts: Mapping[str, Sequence[str]],
    saes: Mapping[int, SparseAutoencoder],
    *,
    norm_limits: Mapping[int, float] | None = None,
    token_budget: int = 4096,
) -> dict[int, dict[str, LatentStatistics]]:
    """Item-level statistics of every latent on texts that were not extracted: {layer: {name: ...}}.

    Args:
        model: the base model.
        tokenizer: its tokenizer.
        texts: by name.
        saes: by layer, on any device.
        norm_limits: rows above it are sinks, by layer.
        token_budget: tokens of a forward pass.
    """
    from mmie.models.hooks import capture

    saes = {layer: at_block(sae, model, layer) for layer, sae in saes.items()}
    found: dict[int, dict[str, LatentStatistics]] = {layer: {} for layer in saes}
    for name, some in texts.items():
        collected = {layer: ItemStatistics(sae.latents) for layer, sae in saes.items()}
        for chosen, inputs, special in _batches(tokenizer, some, token_budget):
            with capture(model, list(saes)) as seen:
                device = input_device(model)
                model(**{key: value.to(device) for key, value in inputs.items()})
            for layer, sae in saes.items():
                assert seen.keep is not None
                hidden = seen.hidden[layer].float()
                limit = (norm_limits or {}).get(layer, math.inf)
                ordinary = (seen.keep & ~special.to(seen.keep.device)).to(hidden.device)
                keep = ordinary & (hidden.norm(dim=-1) <= limit)
                item = torch.tensor(chosen)[:, None].expand(keep.shape)[keep.cpu()]
                values, indices = sae.encode(hidden[keep])
                collected[layer].add(values.cpu(), indices.cpu(), item)
        for layer, sums in collected.items():
            found[layer][name] = sums.result()
    return found


def _batches(
    tokenizer: Any, texts: Sequence[str], token_budget: int
) -> list[tuple[list[int], dict[str, Tensor], Tensor]]:
    """Places in `texts`, model inputs and where special tokens are, [batch, time]."""
    from mmie.activations.extract import length_buckets
    from mmie.models.prompts import collate, encode_all, padding_id

    encoded = encode_all(tokenizer, list(texts), [None] * len(texts), count_eos=False)
    special = torch.tensor(sorted(tokenizer.all_special_ids))
    batches = []
    for chosen in length_buckets([len(item.ids) for item in encoded], token_budget):
        inputs = collate([encoded[at] for at in chosen], padding_id(tokenizer)).inputs()
        batches.append((list(chosen), inputs, torch.isin(inputs["input_ids"], special)))
    return batches
