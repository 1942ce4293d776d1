"""Which latents fire in a training batch: the largest pre-activations of each row, or of the batch.

On processors with bfloat16 dot products the dense encode, which is the limit of a training step, may be
a screen in bfloat16: it chooses the latents that fire, and their pre-activations are computed in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

GROUP = 8
"""Columns that share a maximum in `largest`."""
CACHED = 2**20
"""Numbers that stay in a processor's cache, measured: 4 MB."""
SAMPLE = 64
"""Rows that tell where the batch's threshold lies."""
LONGEST = 2**16
"""Columns that a key has room for."""
KEYS = {torch.bfloat16: (torch.int16, torch.int32, 16), torch.float32: (torch.int32, torch.int64, 32)}
"""Of a type of values: integers of its bits, integers with room for a column beside them, that room."""


@dataclass(frozen=True)
class Selection:
    """Selected pairs of row and latent, in the order of the rows."""

    rows: Tensor
    """[selected]."""
    latents: Tensor
    """[selected]."""
    values: Tensor
    """Their pre-activations, [selected]; those of 0 and less do not fire."""


def screens(x: Tensor) -> bool:
    """Whether this machine multiplies bfloat16 matrices faster than float32 ones, for float32 rows."""
    if x.dtype != torch.float32:
        return False
    if x.device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return x.device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def rows_in_cache(weights: Tensor) -> int:
    """How many rows of a matrix [rows, width] to work on at once; on a GPU all."""
    return max(1, CACHED // weights.shape[1] if weights.device.type == "cpu" else len(weights))


def largest(u: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each row and their columns, each [rows, k], in no order.

    The k largest values lie in the k groups of columns with the largest maxima, so two small selections
    replace one over all columns.
    """
    rows, columns = u.shape
    if columns % GROUP or columns < 4 * GROUP * k:
        values, indices = u.topk(k, dim=-1, sorted=False)
        return values, indices
    groups = columns // GROUP
    best = _places_of_largest(u.view(rows, GROUP, groups).amax(1), k)
    offsets = torch.arange(0, columns, groups, device=u.device)
    members = (best.unsqueeze(1) + offsets[:, None]).view(rows, -1)
    indices = members.gather(1, _places_of_largest(u.gather(1, members), k))
    return u.gather(1, indices), indices


def _places_of_largest(values: Tensor, k: int) -> Tensor:
    """Columns of the k largest values of each row of a narrow matrix, [rows, k], in no order."""
    if values.device.type != "cpu" or values.dtype not in KEYS or values.shape[1] > LONGEST:
        return values.topk(k, dim=-1, sorted=False).indices
    # Value and column in one integer: NumPy partitions integers by vector instructions, torch does not.
    bits, key, width = KEYS[values.dtype]
    signed = values.view(bits)
    ordered = signed >> (8 * signed.element_size() - 1)
    ordered.bitwise_and_(torch.iinfo(bits).max).bitwise_xor_(signed)
    # As in topk, what is no number comes first, so that the loss shows it; a single one makes the sum one.
    if values.sum().isnan():
        ordered.masked_fill_(values.isnan(), torch.iinfo(bits).max)
    keys = ordered.to(key).bitwise_left_shift_(width)
    keys.bitwise_or_(torch.arange(values.shape[1], dtype=key))
    partitioned = keys.numpy()
    partitioned.partition(values.shape[1] - k, axis=1)
    return keys[:, values.shape[1] - k :].bitwise_and((1 << width) - 1).long()


def select_per_row(u: Tensor, k: int) -> Selection:
    """The k largest of each row of u [rows, latents]."""
    values, indices = largest(u, k)
    return _by_row(values, indices)


class Screen:
    """Chooses latents by a bfloat16 product; their pre-activations are float32.

    Another latent than in float32 is chosen only where rounding decides, among those that fire least.
    The bfloat16 weights and the product stay in memory between calls: the system hands out fresh memory
    page by page, which takes longer than filling it.
    """

    def __init__(self) -> None:
        self._weights = self._product = torch.empty(0, 0, dtype=torch.bfloat16)

    def select(self, centred: Tensor, w_enc: Tensor, b_enc: Tensor, k: int) -> Selection:
        """As `select_per_row` of W_enc centred + b_enc, for centred [rows, width]."""
        if self._weights.shape != w_enc.shape:
            self._weights = torch.empty_like(w_enc, dtype=torch.bfloat16)
        if len(self._product) < len(centred) or self._product.shape[1] != len(w_enc):
            self._product = self._weights.new_empty(len(centred), len(w_enc))
        product = self._product[: len(centred)]
        self._weights.copy_(w_enc)
        torch.addmm(b_enc.bfloat16(), centred.bfloat16(), self._weights.T, out=product)
        _, indices = largest(product, k)
        return _by_row(dot_products(centred, w_enc, indices) + b_enc[indices], indices)


def select_per_batch(u: Tensor, k: int) -> Selection:
    """The k x rows largest of the whole batch u [rows, latents].

    A sample of the rows gives a value that more than enough exceed; only those are compared.
    """
    wanted = k * len(u)
    sample = u[:: max(1, len(u) // SAMPLE)]
    floor = sample.flatten().topk(min(2 * k * len(sample), sample.numel())).values[-1]
    rows, latents = (u > floor).nonzero(as_tuple=True)
    if len(rows) < wanted:
        rows, latents = torch.ones_like(u, dtype=torch.bool).nonzero(as_tuple=True)
    values = u[rows, latents]
    kept = values.topk(wanted, sorted=False).indices.sort().values
    return Selection(rows[kept], latents[kept], values[kept])


def dot_products(x: Tensor, weights: Tensor, indices: Tensor) -> Tensor:
    """<weights[indices[n, i]], x[n]>, [rows, i]."""
    rows = torch.arange(len(x), device=x.device).repeat_interleave(indices.shape[1])
    return pair_products(x, weights, rows, indices.reshape(-1)).reshape(indices.shape)


def pair_products(x: Tensor, weights: Tensor, rows: Tensor, indices: Tensor) -> Tensor:
    """<weights[indices[i]], x[rows[i]]> for pairs in the order of the rows, [pairs]."""
    operator = getattr(torch.ops.aten, "_embedding_bag_per_sample_weights_backward", None)
    if x.device.type == "cpu" and operator is not None:
        return _pair_products_fused(x, weights, rows, indices)
    return _pair_products_gathered(x, weights, rows, indices)


def _pair_products_fused(x: Tensor, weights: Tensor, rows: Tensor, indices: Tensor) -> Tensor:
    starts = torch.searchsorted(rows, torch.arange(len(x), device=x.device))
    order = None
    if weights.numel() > CACHED:
        # A row of weights is then read from memory once, not once a pair.
        order = indices.to(torch.int32).sort(stable=True).indices
        rows, indices = rows[order], indices[order]
    products: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        x.contiguous(), weights.detach(), indices, starts, rows, 0, -1
    )
    return products if order is None else torch.empty_like(products).index_copy_(0, order, products)


def _pair_products_gathered(x: Tensor, weights: Tensor, rows: Tensor, indices: Tensor) -> Tensor:
    # Chunks bound the memory: all pairs at once would hold k copies of the batch.
    parts = [
        (weights[some] * x[mine]).sum(-1)
        for some, mine in zip(indices.split(8192), rows.split(8192), strict=True)
    ]
    return torch.cat(parts)


def _by_row(values: Tensor, indices: Tensor) -> Selection:
    rows = torch.arange(len(indices), device=indices.device).repeat_interleave(indices.shape[1])
    return Selection(rows, indices.reshape(-1), values.reshape(-1))
