"""Take a subspace out of the weights that write to the stream, and see on a probe that it is out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmie.errors import InputError
from mmie.interventions.interface import default_probe
from mmie.models.blocks import block_device, find_blocks, streams_of_blocks

WRITERS = (
    "o_proj", "down_proj", "c_proj", "out_proj", "dense", "dense_4h_to_h", "fc2", "fc_out", "output_linear",
)  # fmt: skip
"""What transformers calls the layers that write to the stream."""
EXACT, ROUNDINGS = 1e-3, 4
"""Allowed share of the stream: of float32 (TF32 included); of coarser types so many units of rounding."""


def projected_writers(
    model: nn.Module, bases: Mapping[int, Tensor], writers: Sequence[str], *, strength: float = 1.0
) -> dict[str, Tensor]:
    """W <- (I - strength V V') W for the writing matrices and biases of some blocks.

    Args:
        model: unwrapped.
        bases: V by block, orthonormal columns [width, k].
        writers: names of the layers that write; a mixture of experts may keep them as one parameter
            [experts, width, inner] or [experts, inner, width], with a bias [experts, width].
        strength: share of the projection.

    Returns:
        New tensors by parameter name, float32.

    Raises:
        InputError: a block without such a layer, or a layer with another output than the stream.
    """
    blocks = find_blocks(model)
    names = {id(module): name for name, module in model.named_modules()}
    changed: dict[str, Tensor] = {}
    for layer, basis in bases.items():
        found = {
            f"{names[id(blocks[layer])]}.{name}": (module, value)
            for name, module, value in _written(blocks[layer], writers)
        }
        if not found:
            raise InputError(
                f"arm of kind 'subspace': block {layer} has no layer named {', '.join(writers)}. "
                "Set `writers` to the layers that write to the stream."
            )
        own = basis.float().to(block_device(blocks[layer]))
        for name, (module, value) in found.items():
            axis = _width_axis(name, module, value, len(own))
            outward = value.detach().float().movedim(axis, -1)
            changed[name] = (outward - strength * (outward @ own) @ own.T).movedim(-1, axis).contiguous()
    return changed


def check_nothing_is_written(model: nn.Module, bases: Mapping[int, Tensor], writers: Sequence[str]) -> None:
    """Run a few tokens and require that blocks add nothing along their subspaces.

    What a block adds is compared, token by token and direction v by direction, with what rounding could
    make of the stream there: |(after - before).v| against sqrt(sum_i v_i^2 (before_i^2 + after_i^2)).

    Raises:
        InputError: a block still writes: a writer has another name, or a norm with gains follows it.
    """
    streams = streams_of_blocks(model, default_probe(model), list(bases))
    for layer, (before, after) in streams.items():
        basis = bases[layer].float().to(before.device)
        exact = [before.float(), after.float()]
        along = ((exact[1] - exact[0]) @ basis).abs()
        scale = ((exact[0] ** 2 + exact[1] ** 2) @ basis**2).sqrt()
        allowed = max(EXACT, ROUNDINGS * torch.finfo(before.dtype).eps)
        worst = float((along / scale.clamp(min=torch.finfo(torch.float32).tiny)).max())
        if not worst <= allowed:
            block = find_blocks(model)[layer]
            names = sorted({name for name, _, _ in _written(block, writers)})
            raise InputError(
                f"arm of kind 'subspace': block {layer} ({type(block).__name__}) cannot be baked. With "
                f"{', '.join(names)} projected (all that bear a name of `writers`: {', '.join(writers)}) it "
                f"still adds {worst:.2g} of the stream along the subspace, where {allowed:.2g} is rounding. "
                "Another layer writes, or a norm with learnt gains stands after the writers. Set "
                "`baked: false`, or name all layers that write in `writers`."
            )


def _written(block: nn.Module, writers: Sequence[str]) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    """Name, owner and value of each parameter of a writer: of its module, or fused over experts."""
    for name, value in block.named_parameters():
        owner, _, leaf = name.rpartition(".")
        of_module = leaf in ("weight", "bias") and owner.rpartition(".")[2] in writers
        if of_module or leaf.removesuffix("_bias") in writers:
            yield name, block.get_submodule(owner), value


def _width_axis(name: str, owner: nn.Module, value: Tensor, width: int) -> int:
    """The axis of a writer's parameter along which the stream lies."""
    if name.endswith("bias"):
        axis = value.ndim - 1
    elif value.ndim == 2:
        # transformers' Conv1D (GPT-2) stores [in, out], linear layers [out, in].
        axis = 0 if isinstance(owner, nn.Linear) else 1
    elif value.ndim == 3 and value.shape[1] == value.shape[2]:
        axis = 2 if getattr(owner, "is_transposed", False) else 1
    else:
        axis = next((at for at in range(1, value.ndim) if value.shape[at] == width), 0)
    if value.shape[axis] != width:
        raise InputError(f"arm of kind 'subspace': {name} does not write to the stream. Mend `writers`.")
    return axis
