"""Hashes that tell whether a model is still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmie.models.blocks import input_device


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, types and bytes of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        digest.update(f"{name}\0{tuple(tensor.shape)}\0{tensor.dtype}\0".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).cpu().numpy().data)
    return digest.hexdigest()


def probe_hash(model: nn.Module, input_ids: Tensor) -> str:
    """SHA-256 of the logits' bytes on a probe batch: equal only if the model computes the same.

    Args:
        model: a causal language model; its training mode is restored.
        input_ids: [batch, time], no padding.
    """
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            logits = model(input_ids=input_ids.to(input_device(model)), use_cache=False).logits
    finally:
        model.train(training)
    return weights_hash({"logits": logits})
