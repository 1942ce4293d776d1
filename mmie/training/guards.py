"""Who may change during training, and the check that only they did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from mmie.training.fingerprint import weights_hash


@contextmanager
def only_trainable(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Freeze everything but the given parameters, in eval mode; restore flags and mode."""
    chosen = {id(parameter) for parameter in parameters.values()}
    others = [value for value in model.parameters() if id(value) not in chosen]
    every = [*others, *parameters.values()]
    flags = [value.requires_grad for value in every]
    training = model.training
    model.eval()
    try:
        for value in every:
            value.requires_grad_(id(value) in chosen)
        yield
    finally:
        for value, flag in zip(every, flags, strict=True):
            value.requires_grad_(flag)
            value.grad = None
        model.train(training)


@contextmanager
def only_these_move(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Check afterwards that every given parameter changed and no other tensor of the model did."""
    chosen = {id(value) for value in parameters.values()}
    others = {name: value for name, value in model.named_parameters() if id(value) not in chosen}
    before = {name: value.detach().clone() for name, value in parameters.items()}
    frozen = weights_hash(others)
    yield
    still = [name for name, value in parameters.items() if torch.equal(value, before[name])]
    if still:
        raise RuntimeError(
            f"training moved nothing in {still[:4]} ({len(still)} of {len(before)} tensors). "
            "Gradient checkpointing without input gradients does this; turn it off."
        )
    if weights_hash(others) != frozen:
        raise RuntimeError("training changed tensors of the frozen model. This is an error of MMIE.")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators for the run and give them back as they were."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
