"""Read, patch and disturb the residual stream while answers are scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmie.errors import InputError
from mmie.models.blocks import find_decoder
from mmie.models.hooks import capture, edit
from mmie.models.prompts import Batch, collate, encode_all, length_buckets, padding_id
from mmie.objectives.masking import token_nll
from mmie.training.forward import answer_logits

_FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "norm_f", "ln_final")


@dataclass(frozen=True)
class States:
    """A batch and what the model's blocks gave for it.

    hidden: by layer [batch, time, width]; log_p: mean answer log-probability of each item, [batch].
    """

    indices: list[int]
    batch: Batch
    hidden: Mapping[int, Tensor]
    log_p: Tensor


def batches(
    tokenizer: Any, prompts: Sequence[str], answers: Sequence[str], batch_size: int
) -> list[tuple[list[int], Batch]]:
    """Items with their answers, padded on the left, of similar length together."""
    encoded = encode_all(tokenizer, prompts, answers)
    return [
        (indices, collate([encoded[index] for index in indices], padding_id(tokenizer), side="left"))
        for indices in length_buckets(encoded, batch_size)
    ]


@torch.no_grad()
def read_states(model: Any, indices: list[int], batch: Batch) -> States:
    """Block outputs of every layer and the answers' log-probability, from one forward pass."""
    layers = range(len(find_decoder(model)[1]))
    with capture(model, layers) as captured:
        log_p = answer_log_p(model, batch)
    time = batch.input_ids.shape[1]
    # An arm may put tokens of its own before the text; the text's positions are the last ones.
    return States(
        indices, batch, {layer: hidden[:, -time:] for layer, hidden in captured.hidden.items()}, log_p
    )


@torch.no_grad()
def answer_log_p(model: Any, batch: Batch) -> Tensor:
    """Mean log-probability of each answer's tokens, end token included, nats, [batch]."""
    logits, target, mask = answer_logits(model, batch)
    return -token_nll(logits, target, mask).sum(-1) / mask.sum(-1)


def patched_log_p(model: Any, states: States, layer: int) -> Tensor:
    """`answer_log_p` with the block output of one layer replaced by another model's, [batch].

    Everything above the layer then runs on the other model's representation. The first token of each
    sequence, a sink, keeps its own.

    Args:
        model: the base model.
        states: of the other model, on the same batch.
        layer: where to replace.
    """
    given = states.hidden[layer]
    with edit(model, {layer: lambda hidden, _: given.to(hidden.dtype)}):
        return answer_log_p(model, states.batch)


def noisy_log_p(model: Any, states: States, layer: int, noise: float, generator: torch.Generator) -> Tensor:
    """`answer_log_p` with noise added to one block's output, [batch].

    Every token gets a random direction of one and the same norm, noise * std(h) * sqrt(width), with
    std(h) over the kept activations of this batch and layer: draws differ in direction alone.

    Args:
        model: with the arm in force.
        states: of the same model on the batch.
        layer: where the noise goes.
        noise: its size as a share of the activations' standard deviation; 0 changes nothing.
        generator: decides the directions.
    """
    hidden = states.hidden[layer]
    real = states.batch.attention_mask
    size = noise * hidden[real.to(hidden.device)].float().std() * hidden.shape[-1] ** 0.5
    direction = torch.randn(hidden.shape, generator=generator)
    direction = direction / direction.norm(dim=-1, keepdim=True)
    added = (size * direction.to(hidden.device)).to(hidden.dtype)

    def disturb(stream: Tensor, _keep: Tensor) -> Tensor:
        before, text = stream[:, : -added.shape[1]], stream[:, -added.shape[1] :]
        return torch.cat([before, text + added], dim=1)

    with edit(model, {layer: disturb}):
        return answer_log_p(model, states.batch)


@torch.no_grad()
def lens_log_p(model: Any, states: States, layer: int) -> Tensor:
    """Mean answer log-probability if the model ended after `layer`, [batch].

    The layer's output goes through the model's own final norm and output head; at the last layer this
    is `answer_log_p`. Source: nostalgebraist 2020, logit lens.
    """
    norm, head = output_stage(model)
    mask = states.batch.answer_mask[:, 1:].to(states.log_p.device)
    target = states.batch.input_ids[:, 1:].to(states.log_p.device)
    logits = head(norm(states.hidden[layer][:, :-1][mask]))
    return _item_means(logits.float().log_softmax(-1), target, mask)


def _item_means(log_p: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    own = log_p.gather(-1, target[mask][:, None]).squeeze(-1)
    spread = torch.zeros(mask.shape, device=log_p.device)
    spread[mask] = own
    return spread.sum(-1) / mask.sum(-1)


def output_stage(model: Any) -> tuple[Any, Any]:
    """The final norm and the output head of a model, wrapped or not.

    Raises:
        InputError: the norm is not where decoders have it.
    """
    decoder, _ = find_decoder(model)
    found = [getattr(decoder, name) for name in _FINAL_NORMS if hasattr(decoder, name)]
    head = model.get_output_embeddings()
    if len(found) != 1 or head is None:
        children = ", ".join(name for name, _ in decoder.named_children())
        raise InputError(
            f"logit lens: no final norm among {', '.join(_FINAL_NORMS)} in the decoder (it has {children}). "
            "This architecture is not supported by the depth stage; leave the stage out."
        )
    return found[0], head


def answer_features(model: Any, states: States, layer: int) -> Tensor:
    """What a linear probe reads an answer from: h * e, element by element, [batch, width], float32.

    h is the state from which the first answer token is predicted, e that token's row of the model's own
    output head. A linear probe on h * e weighs how well state and answer agree, dimension by dimension;
    at the last layer the model itself does so, with all weights alike.

    Args:
        model: the model that `states` are of, as it was then.
    """
    first = states.batch.answer_mask.int().argmax(-1)
    rows = torch.arange(len(first))
    hidden = states.hidden[layer]
    before = hidden[rows.to(hidden.device), (first - 1).to(hidden.device)].float()
    weight = model.get_output_embeddings().weight.detach()
    return before * weight[states.batch.input_ids[rows, first].to(weight.device)].float()
