"""Changes of a model's own weights, learned beside the weights: the base is never written to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

from mmie.errors import InputError
from mmie.interventions.weights import exchanged
from mmie.models.blocks import find_blocks
from mmie.models.hooks import edits_disabled


class _Sum(nn.Module):
    """weight + delta, or the weight itself while the model runs as the frozen reference."""

    def __init__(self, delta: nn.Parameter, switched_off: Callable[[], bool]) -> None:
        super().__init__()
        self.delta = delta
        self._switched_off = switched_off

    def forward(self, weight: Tensor) -> Tensor:
        return weight if self._switched_off() else _plus(weight, self.delta)


@contextmanager
def trainable_deltas(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, nn.Parameter]]:
    """Let some weights of a model be weight + delta, delta a float32 parameter that starts at 0.

    Inside `mmie.models.hooks.disabled` the model is the base, so that no second copy is needed as the
    reference. On exit the very tensors of before stand in their places. Weights that the model ties
    share one delta.

    Args:
        model: unwrapped.
        names: of its parameters.

    Yields:
        The deltas by name.
    """
    places = _places(model)
    deltas: dict[str, nn.Parameter] = {}
    with ExitStack() as stack:
        for name in names:
            for module, attribute in places[name]:
                weight = getattr(module, attribute)
                if name not in deltas:
                    deltas[name] = nn.Parameter(torch.zeros_like(weight, dtype=torch.float32))
                part = _Sum(deltas[name], lambda: edits_disabled(model))
                register_parametrization(module, attribute, part, unsafe=True)
                stack.callback(remove_parametrizations, module, attribute, leave_parametrized=False)
        yield deltas


@contextmanager
def moved(model: nn.Module, deltas: Mapping[str, Tensor], share: float = 1.0) -> Iterator[nn.Module]:
    """Let the model compute with weight + share * delta; the base weights are set aside, not written to."""
    own = dict(model.named_parameters())
    unknown = sorted(set(deltas) - set(own))
    if unknown:
        raise InputError(f"weight changes {unknown[:4]} do not fit the model. Fit the arm again.")
    changed = {
        name: _plus(own[name].detach(), share * delta.to(own[name].device)) for name, delta in deltas.items()
    }
    with exchanged(model, changed):
        yield model


def weight_names(model: nn.Module, layers: Sequence[int] | None, targets: Sequence[str] | None) -> list[str]:
    """Names of parameters, each tied group once.

    Args:
        model: unwrapped.
        layers: blocks; None for the whole model, embeddings and head included.
        targets: names of modules whose `weight` is meant; None for every parameter.

    Raises:
        InputError: a block without a module of such a name.
    """
    names = {id(module): name for name, module in model.named_modules()}
    prefixes = [""] if layers is None else [f"{names[id(find_blocks(model)[layer])]}." for layer in layers]
    parameters = [name for name, _ in model.named_parameters()]
    chosen: list[str] = []
    for prefix in prefixes:
        inside = [name for name in parameters if name.startswith(prefix)]
        found = [name for name in inside if targets is None or _owner(name) in targets]
        lacking = sorted(set(targets or ()) - {_owner(name) for name in found})
        if lacking or not found:
            known = ", ".join(sorted({_owner(name) for name in inside}))
            raise InputError(
                f"targets: {prefix or 'the model'} has no weights named {lacking}. It has: {known}."
            )
        chosen += found
    return chosen


def _owner(name: str) -> str:
    """The module of `model.layers.0.mlp.down_proj.weight` is `down_proj`."""
    return name.rpartition(".")[0].rpartition(".")[2]


def _places(model: nn.Module) -> dict[str, list[tuple[nn.Module, str]]]:
    """Where each parameter is used: several places where weights are tied, under the first name."""
    first: dict[int, str] = {id(value): name for name, value in model.named_parameters()}
    places: dict[str, list[tuple[nn.Module, str]]] = {}
    for module in list(model.modules()):
        for attribute, value in module.named_parameters(recurse=False):
            places.setdefault(first[id(value)], []).append((module, attribute))
    return places


def _plus(weight: Tensor, delta: Tensor) -> Tensor:
    return (weight.float() + delta).to(weight.dtype)
