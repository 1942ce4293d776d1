"""The one training loop: a forget batch and a retain batch in every optimiser step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from mmie.models.hooks import disabled
from mmie.objectives.forget import gradient_ascent, npo
from mmie.objectives.masking import answer_nll
from mmie.objectives.retain import nll, token_kl
from mmie.training.batches import CyclicBatches, Examples
from mmie.training.checkpoint import (
    Checkpoint,
    generator_states,
    newest_checkpoint,
    optimiser_tensors,
    restore,
    save_checkpoint,
)
from mmie.training.divergence import TrainingDiverged, require_finite
from mmie.training.forward import answer_logits
from mmie.training.guards import only_these_move, only_trainable, seeded
from mmie.training.settings import TrainingSettings, learning_rate

HISTORY = [
    "step", "forget_loss", "retain_loss", "forget_nll", "lr", "grad_norm", "forget_items",
    "retain_items", "tokens",
]  # fmt: skip
"""Columns of the history: losses before weighting, forget_nll in mean nats an item, tokens of both
batches' answers."""


@dataclass(frozen=True)
class TrainingSets:
    """What a run reads."""

    forget: Examples
    reference_nll: Sequence[float]
    """Summed answer NLL of each forget example under the frozen reference, nats."""
    retain: Examples


def train(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    sets: TrainingSets,
    settings: TrainingSettings,
    *,
    seed: int,
    checkpoints: Path | None = None,
    identity: str = "",
) -> pd.DataFrame:
    """Train the parameters of an intervention that is attached to the model.

    The reference of the retain term is the same model with the intervention switched off; that of the
    forget term was stored beforehand. A run that was killed and started again with the same arguments
    ends with the same bytes.

    Args:
        model: with the intervention attached; it stays in eval mode throughout.
        parameters: all that may change, by name.
        sets: forget and retain examples.
        settings: constants of the run.
        seed: of the order of the data.
        checkpoints: where resumable state goes; None for none.
        identity: hash of everything that shapes the run; a checkpoint of another one is refused.

    Returns:
        One row a step, columns `HISTORY`.

    Raises:
        TrainingDiverged: a loss or gradient is not finite; names step and items.
        RuntimeError: an intended parameter did not move, or another one did.
    """
    draw_forget, draw_retain = (
        CyclicBatches(examples.languages, size, seed=seed, weights=settings.language_weights)
        for examples, size in (
            (sets.forget, settings.forget_batch),
            (sets.retain, settings.retain_batch),
        )
    )
    optimiser = torch.optim.AdamW(list(parameters.values()), weight_decay=settings.weight_decay)
    history: list[dict[str, Any]] = []
    with only_trainable(model, parameters), only_these_move(model, parameters), seeded(seed):
        found = newest_checkpoint(checkpoints, identity) if checkpoints else None
        if found is not None:
            restore(found, parameters, optimiser)
            draw_forget.position = found.positions["forget"]
            draw_retain.position = found.positions["retain"]
            history = found.history
        for step in range(len(history), settings.steps):
            rate = learning_rate(step, settings)
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad()
            forget = forget_step(model, sets, next(draw_forget), settings, step)
            retain = retain_step(model, sets.retain, next(draw_retain), settings, step)
            norm = nn.utils.clip_grad_norm_(list(parameters.values()), settings.clip)
            if not torch.isfinite(norm):
                raise TrainingDiverged(f"step {step}: gradient norm {norm}. Lower the learning rate.")
            optimiser.step()
            history.append(
                {"step": step, **forget, **retain, "lr": rate, "grad_norm": norm.item()}
                | {"tokens": forget["tokens"] + retain["tokens"]}
            )
            if checkpoints and len(history) % settings.checkpoint_every == 0:
                state = Checkpoint(
                    step=len(history),
                    parameters={name: value.detach() for name, value in parameters.items()},
                    optimiser=optimiser_tensors(optimiser, parameters),
                    generators=generator_states(),
                    positions={"forget": draw_forget.position, "retain": draw_retain.position},
                    history=history,
                )
                save_checkpoint(checkpoints, identity, state)
    return pd.DataFrame(history, columns=HISTORY)


def forget_step(
    model: nn.Module, sets: TrainingSets, rows: list[int], settings: TrainingSettings, step: int
) -> dict[str, Any]:
    """Add the gradient of gamma E_F[loss]; the mean is over the items of the whole window."""
    losses, sums, tokens = [], [], 0
    for part in micro_batches(rows, settings.micro_batch):
        nll_sum, lengths = answer_nll(*answer_logits(model, sets.forget.batch(part)))
        if settings.objective == "npo":
            reference = nll_sum.new_tensor([sets.reference_nll[row] for row in part])
            loss = npo(nll_sum, reference, settings.beta)
        else:
            loss = gradient_ascent(nll(nll_sum, lengths))
        require_finite(loss, [sets.forget.key(row) for row in part], f"step {step}: forget loss")
        (settings.forget_weight * loss.sum() / len(rows)).backward()
        losses.append(loss.detach())
        sums.append(nll_sum.detach())
        tokens += int(lengths.sum())
    return {
        "forget_loss": _mean(losses, len(rows)),
        "forget_nll": _mean(sums, len(rows)),
        "forget_items": len(rows),
        "tokens": tokens,
    }


def retain_step(
    model: nn.Module, retain: Examples, rows: list[int], settings: TrainingSettings, step: int
) -> dict[str, Any]:
    """Add the gradient of alpha L_R; KL is pooled over the tokens of the window, NLL over items."""
    lengths = retain.answer_lengths
    tokens = sum(lengths[row] for row in rows)
    losses, divisor = [], len(rows)
    for part in micro_batches(rows, settings.micro_batch):
        batch = retain.batch(part)
        if settings.retain_objective == "kl":
            with torch.no_grad(), disabled(model):
                reference, _, _ = answer_logits(model, batch)
            logits, _, mask = answer_logits(model, batch)
            divergence = token_kl(logits[mask], reference[mask])
            items = torch.nonzero(mask)[:, 0]
            item_loss = divergence.new_zeros(len(part)).index_add(0, items, divergence)
            divisor = tokens
        else:
            item_loss = nll(*answer_nll(*answer_logits(model, batch)))
        require_finite(item_loss, [retain.key(row) for row in part], f"step {step}: retain loss")
        (settings.retain_weight * item_loss.sum() / divisor).backward()
        losses.append(item_loss.detach())
    return {
        "retain_loss": _mean(losses, divisor),
        "retain_items": len(rows),
        "tokens": tokens,
    }


def micro_batches(rows: list[int], size: int | None) -> Iterator[list[int]]:
    """Cut a batch into parts of at most `size` rows; the last one may be smaller, none is dropped."""
    size = size or len(rows)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _mean(parts: list[Tensor], count: int) -> float:
    return float(torch.cat(parts).double().sum() / count)
