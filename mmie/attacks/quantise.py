"""Weight quantisation after unlearning: does rounding the weights bring the forgotten back?

Round to nearest, without calibration data, written in plain tensor operations so that every device
gives the same numbers. Weights are rounded and multiplied out again; the arithmetic stays in the
model's own type, as in weight-only quantisation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import pandas as pd
import torch
from torch import Tensor, nn

from mmie.attacks.scoring import Score, require_rows, scored
from mmie.attacks.weights import merged, on_copies
from mmie.interventions.interface import Intervention
from mmie.models.blocks import find_blocks

Precision = Literal["int8", "int4"]

# Dettmers et al. 2023 (arXiv 2305.14314), appendix E: quantiles of N(0, 1) scaled to [-1, 1], with an
# exact zero.
NF4_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip

BLOCK = 64
"""Weights that share one scale in NF4."""


def round_int8(weight: Tensor) -> Tensor:
    """Symmetric 8-bit rounding with one scale an output channel.

    w' = s round(w / s), s = max|w| / 127 of the row. |w' - w| <= s / 2; a row of zeros stays zero;
    rounding twice changes nothing more.

    Args:
        weight: [outputs, inputs].

    Returns:
        The rounded weight in its own type.
    """
    exact = weight.float()
    scale = exact.abs().amax(dim=1, keepdim=True) / 127
    levels = torch.where(scale > 0, exact / scale, 0.0).round().clamp(-127, 127)
    return (levels * scale).to(weight.dtype)


def round_nf4(weight: Tensor, block: int = BLOCK) -> Tensor:
    """NF4: every block of consecutive weights takes the nearest of 16 levels times its largest |w|.

    A block of zeros stays zero; the largest weight of a block is exact. Scales are not quantised
    themselves ("double quantisation" off).

    Args:
        weight: any shape; blocks run along its rows, a last short block is one of its own.
        block: weights that share a scale.

    Returns:
        The rounded weight in its own type.

    Source: Dettmers et al. 2023 (arXiv 2305.14314).
    """
    flat = weight.float().flatten()
    padded = nn.functional.pad(flat, (0, -len(flat) % block)).view(-1, block)
    scale = padded.abs().amax(dim=1, keepdim=True)
    normal = torch.where(scale > 0, padded / scale, 0.0)
    levels = torch.tensor(NF4_LEVELS, device=weight.device)
    borders = (levels[1:] + levels[:-1]) / 2
    nearest = levels[torch.bucketize(normal, borders)]
    return (nearest * scale).flatten()[: len(flat)].view_as(weight).to(weight.dtype)


ROUNDING: dict[str, Callable[[Tensor], Tensor]] = {"int8": round_int8, "int4": round_nf4}


@contextmanager
def quantised(model: nn.Module, precision: Precision) -> Iterator[nn.Module]:
    """Let the linear layers of all decoder blocks compute with rounded weights.

    Embeddings, norms, biases and the output layer keep theirs, as in bitsandbytes. Adapters are merged
    first, since a shipped model is quantised as one; edits of the residual stream stay attached.
    Afterwards the model is what it was, bit for bit.

    Args:
        model: with its intervention applied.
        precision: "int8" or "int4" (NF4).
    """
    own = {name: value for name, value in model.named_parameters() if ".lora_" not in name}
    rounding = ROUNDING[precision]
    with on_copies(own), merged(model):
        for layer in _linear_layers(model):
            layer.weight.data = rounding(layer.weight.data)
        yield model


def quantise(
    model: nn.Module, intervention: Intervention, rows: pd.DataFrame, *, precision: Precision, score: Score
) -> pd.DataFrame:
    """Score an arm whose weights were quantised after unlearning.

    Args:
        model: the base model.
        intervention: fitted to it.
        rows: TEST forget rows.
        precision: "int8" or "int4" (NF4).
        score: scores a model on rows.

    Returns:
        The table of `mmie.attacks.scoring.scored`; `variant` names the rounding.

    Source: Zhang et al. 2024 (arXiv 2410.16454).
    """
    require_rows(rows, precision)
    variant = {"int8": "round to nearest, output channel", "int4": "NF4, block 64"}[precision]
    with intervention.applied(model) as changed, quantised(changed, precision):
        return scored(changed, rows, score, variant=variant)


def _linear_layers(model: nn.Module) -> list[nn.Linear]:
    """Linear layers inside the blocks, without those of adapters, which are merged already."""
    return [
        module
        for block in find_blocks(model)
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear) and ".lora_" not in f".{name}"
    ]
