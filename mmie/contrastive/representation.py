"""What stands for a prompt: its pooled hidden states, and what may lie between them and a loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmie.errors import InputError
from mmie.io import seed_from


def pooled(hidden: Tensor, prompt: Tensor, pool: str = "mean") -> Tensor:
    """One vector a row from the tokens of its prompt alone.

    Args:
        hidden: block output, [rows, time, width].
        prompt: True on prompt tokens: no padding, no first token, no answer; [rows, time].
        pool: `mean`, or `last_prompt_token`.

    Returns:
        Float32, [rows, width].

    Raises:
        InputError: a row without a prompt token.
    """
    count = prompt.sum(-1, keepdim=True)
    if bool((count == 0).any()):
        rows = torch.nonzero(count.flatten() == 0).flatten().tolist()
        raise InputError(f"triples: batch rows {rows} have no prompt token to pool. Remove these triples.")
    exact = hidden.float()
    if pool == "last_prompt_token":
        places = torch.arange(prompt.shape[1], device=prompt.device)
        last = (places * prompt).argmax(-1)
        return exact[torch.arange(len(exact), device=exact.device), last]
    return (exact * prompt.unsqueeze(-1)).sum(1) / count


class ProjectionHead(nn.Module):
    """Linear, LayerNorm, GELU, Linear on pooled vectors: float32, 2 width^2 + 4 width parameters.

    It stands between representations and the contrastive loss, nowhere else: generation never sees it.
    """

    def __init__(self, width: int, seed: int) -> None:
        """Draw initial values from the seed alone."""
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(
            nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width)
        )
        bound = 1 / math.sqrt(width)
        with torch.no_grad():
            for name, value in self.layers.named_parameters():
                if not name.startswith("1."):
                    generator = torch.Generator().manual_seed(seed_from("projection head", seed, name))
                    value.copy_(torch.empty(value.shape).uniform_(-bound, bound, generator=generator))

    def forward(self, vectors: Tensor) -> Tensor:
        """[rows, width] to [rows, width]."""
        projected: Tensor = self.layers(vectors)
        return projected

    def named(self) -> dict[str, nn.Parameter]:
        """Parameters under the names of the saved file, `head.0.weight` and so on."""
        return {f"head.{name}": value for name, value in self.layers.named_parameters()}


def head_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a head's tensors."""
    vector = {f"head.{name}": (width,) for name in ("0.bias", "1.weight", "1.bias", "3.bias")}
    return {"head.0.weight": (width, width), "head.3.weight": (width, width), **vector}


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """Cosine of each row of one with the same row of the other, [rows]."""
    return (normalize(one, dim=-1) * normalize(other, dim=-1)).sum(-1)


def pairwise_cosine(vectors: Tensor) -> float:
    """Mean cosine over pairs of different rows of [rows, width]; 1 for a constant representation."""
    if len(vectors) < 2:
        raise InputError(
            "contrast.batch: one triple has no pairs, so collapse is not seen. Set it to 2 or more."
        )
    unit = normalize(vectors.double(), dim=-1)
    every = unit @ unit.T
    return float((every.sum() - every.diagonal().sum()) / (len(unit) * (len(unit) - 1)))


def effective_rank(vectors: Tensor) -> float:
    """Exponential of the entropy of the normalised singular values of [rows, width]; 1 when constant.

    Source: Roy and Vetterli 2007, The effective rank.
    """
    values = torch.linalg.svdvals(vectors.double())
    share = values / values.sum()
    return float(torch.exp(-torch.xlogy(share, share).sum()))
