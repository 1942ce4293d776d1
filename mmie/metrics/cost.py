"""What an arm costs: parameters that really differ, time and memory that were really used.

Counts come from the tensors after the fact, not from what a config claims; time and memory from the
manifests and benchmark files of the stages.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mmie.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ParameterChange:
    """How an arm's tensors differ from the base's.

    changed: numbers of the base that have another value; added: numbers the base does not have;
    total: numbers of the base; relative_norm: norm of the difference over the norm of the base, added
    tensors left out.
    """

    changed: int
    added: int
    total: int
    relative_norm: float


def parameter_change(base: Mapping[str, Tensor], arm: Mapping[str, Tensor]) -> ParameterChange:
    """Compare two sets of named tensors.

    An arm that does nothing, and a hook, has 0 changed, 0 added and norm 0.

    Args:
        base: tensors of the base, such as its `state_dict`.
        arm: those of the model with the arm in force; names that the base lacks are added ones.

    Raises:
        InputError: a tensor of the base is missing in the arm, or has another shape.
    """
    missing = sorted(name for name in base if name not in arm or arm[name].shape != base[name].shape)
    if missing:
        raise InputError(
            f"parameter change: {missing[:3]} are not in the arm with the base's shape. "
            "Compare an arm with its own base model."
        )
    changed, squares, norm = 0, 0.0, 0.0
    for name, before in base.items():
        difference = arm[name].detach().double().cpu() - before.detach().double().cpu()
        changed += int(difference.count_nonzero())
        squares += float(difference.square().sum())
        norm += float(before.detach().double().square().sum())
    return ParameterChange(
        changed,
        sum(arm[name].numel() for name in arm if name not in base),
        sum(tensor.numel() for tensor in base.values()),
        math.sqrt(squares / norm) if norm else math.nan,
    )


def merged_tensors(model: Any, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a model under the base's names, low-rank adapters added to the weights they adapt.

    What peft wraps is named again as in the base, and W + (alpha/rank) B A stands for W, so that an
    adapter shows as the change of weights it is.

    Args:
        model: with the arm in force.
        base: tensors of the base, by name.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    state = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in inner.state_dict().items()
        if ".lora_" not in name
    }
    for name, module in inner.named_modules():
        if hasattr(module, "get_delta_weight"):
            weight = f"{name}.weight"
            state[weight] = state[weight] + sum(
                module.get_delta_weight(adapter) for adapter in module.active_adapters
            )
    return {name: state[name] for name in (*base, *(extra for extra in state if extra not in base))}


def latency_per_token(seconds: Sequence[float], tokens: int) -> float:
    """Median of repeated timings over the tokens of each, seconds per token; NaN without tokens.

    The same batch, the same lengths, at least five repeats after one that is thrown away. Direction:
    down; overhead is against the base on the same machine.

    Raises:
        InputError: fewer than five repeats.
    """
    if len(seconds) < 5:
        raise InputError(f"latency: {len(seconds)} repeats. Time at least five.")
    return statistics.median(seconds) / tokens if tokens else math.nan


def overhead(seconds: float, base_seconds: float) -> float:
    """Latency over the base's, as a share: 0 for an arm that does nothing, 0.1 for ten per cent more."""
    return seconds / base_seconds - 1.0 if base_seconds else math.nan


def cost_row(
    arm: str, seed: int, manifest: Mapping[str, Any], change: ParameterChange | None, size: int
) -> dict[str, Any]:
    """The row of one arm and seed in the table of costs; what was not measured is None.

    Args:
        arm: its name.
        seed: its seed.
        manifest: of the fitted arm; `cost` holds wall time and peak memory.
        change: from `parameter_change`; None where it was not measured.
        size: bytes of the arm's directory.

    Returns:
        arm, seed, fit_seconds, peak_memory_mb, machine, device, bytes, and the fields of
        `ParameterChange`.
    """
    cost, hardware = manifest.get("cost", {}), manifest.get("hardware", {})
    names = ("changed", "added", "total", "relative_norm")
    return {
        "arm": arm,
        "seed": seed,
        "fit_seconds": cost.get("wall_seconds"),
        "peak_memory_mb": cost.get("peak_memory_mb"),
        "machine": hardware.get("machine"),
        "device": hardware.get("device"),
        "bytes": size,
        **(asdict(change) if change else dict.fromkeys(names)),
    }
