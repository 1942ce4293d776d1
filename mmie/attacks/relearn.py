"""Relearning: does a little fine-tuning on forget rows bring back rows that it does not contain?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn

from mmie.attacks.scoring import Score, require_rows, scored
from mmie.attacks.weights import on_copies
from mmie.errors import InputError
from mmie.interventions.interface import Intervention
from mmie.objectives.masking import answer_nll
from mmie.objectives.retain import nll
from mmie.training.batches import CyclicBatches, Examples
from mmie.training.divergence import require_finite
from mmie.training.forward import answer_logits, model_limit
from mmie.training.guards import only_trainable, seeded


def relearn(
    model: nn.Module,
    tokenizer: Any,
    intervention: Intervention,
    fit_rows: pd.DataFrame,
    test_rows: pd.DataFrame,
    *,
    steps: Sequence[int] = (0, 1, 5, 10, 25, 50),
    learning_rate: float = 1e-4,
    batch_size: int = 32,
    seed: int,
    score: Score,
    variant: str = "fit",
) -> pd.DataFrame:
    """Fine-tune the arm's weights on forget rows and score it on others along the way.

    The intervention stays in force with its own parameters frozen; all weights of the model under it
    are trained on the mean answer NLL, at a constant rate. Base and oracle go through the same
    function: a curve without them cannot tell relearning from first learning. The model is the same
    afterwards, bit for bit.

    Args:
        model: the base model.
        tokenizer: of the model.
        intervention: fitted to it.
        fit_rows: the attacker's data, of `relearn_sets`.
        test_rows: forget rows of other groups, what is scored.
        steps: optimiser steps after which to score; 0 is before the attack.
        learning_rate: of AdamW.
        batch_size: forget rows in a step.
        seed: of the order of the rows.
        score: scores a model on rows.
        variant: names the attacker's data in the table.

    Returns:
        One row per step and test row: step, variant, example_id, group, language, leak, correct,
        answer_probability.

    Raises:
        InputError: steps do not rise; an empty set; a group in both sets; scores lack a column.
        TrainingDiverged: a loss is not finite.

    Source: Deeb and Roger 2024 (arXiv 2410.08827), who score facts that the attacker does not hold.
    """
    if list(steps) != sorted(set(steps)) or not steps or steps[0] < 0:
        raise InputError(f"attacks.relearn.steps: {list(steps)} must rise from 0 or more. Sort them.")
    require_rows(test_rows, "relearn")
    shared = sorted(set(fit_rows["group"]) & set(test_rows["group"]))
    if shared:
        raise InputError(
            f"relearn: groups {shared[:3]} are in the attacker's rows and in the scored ones. Split by group."
        )
    examples = Examples.from_rows(fit_rows, tokenizer, longest=model_limit(model), name="relearn")
    draws = CyclicBatches(examples.languages, batch_size, seed=seed)
    own = dict(model.named_parameters())
    tables = []
    with (
        intervention.applied(model) as attacked,
        on_copies(own),
        only_trainable(attacked, own),
        seeded(seed),
    ):
        optimiser = torch.optim.AdamW(own.values(), lr=learning_rate, weight_decay=0.0)
        for step in range(steps[-1] + 1):
            if step in steps:
                tables.append(scored(attacked, test_rows, score, step=step, variant=variant))
            if step < steps[-1]:
                optimiser.zero_grad()
                rows = next(draws)
                losses = nll(*answer_nll(*answer_logits(attacked, examples.batch(rows))))
                require_finite(losses, [examples.key(row) for row in rows], f"relearn step {step}")
                losses.mean().backward()
                nn.utils.clip_grad_norm_(own.values(), 1.0, error_if_nonfinite=True)
                optimiser.step()
    return pd.concat(tables, ignore_index=True)
