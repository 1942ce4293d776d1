"""What an arm changes in a model and how much slower it makes it, measured with the arm in force."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmie.metrics.cost import ParameterChange, latency_per_token, merged_tensors, parameter_change
from mmie.models.generation import decode_greedily

if TYPE_CHECKING:
    from mmie.interventions.interface import Intervention

_REPEATS = 5
_TOKENS = 8


def model_cost(
    model: Any, tokenizer: Any, intervention: Intervention, prompts: Sequence[str], *, batch: int = 16
) -> tuple[ParameterChange, float]:
    """Changed parameters, and median seconds a generated token and prompt.

    The time is greedy decoding of the same few prompts, five times after one that is thrown away. It
    differs between machines and moments, so it is no part of any table that must repeat bit for bit.

    Args:
        model: the base model.
        tokenizer: its tokenizer.
        intervention: fitted to it.
        prompts: the first `batch` of them are decoded.
        batch: prompts decoded together.
    """
    base = dict(model.state_dict())
    few = list(prompts[:batch])
    with intervention.applied(model) as arm:
        change = parameter_change(base, merged_tensors(arm, base))
        seconds, tokens = [], 0
        for _ in range(_REPEATS + 1):
            start = time.perf_counter()
            done = decode_greedily(arm, tokenizer, few, max_new_tokens=_TOKENS, batch_size=batch)
            seconds.append(time.perf_counter() - start)
            tokens = sum(done.n_tokens)
    return change, latency_per_token(seconds[1:], tokens)
