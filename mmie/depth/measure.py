"""Every measure of depth of one arm and seed, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mmie.activations.probes import ProbeTask, probe
from mmie.depth import stream
from mmie.depth.stream import States
from mmie.io import seed_from
from mmie.models.blocks import find_blocks

if TYPE_CHECKING:
    import pandas as pd

    from mmie.interventions.interface import Intervention

MEASURES = (
    "probe_auc", "probe_control_auc", "probe_selectivity", "lens_log_p", "patched_log_p",
    "perturbation_effect", "perturbation_sd",
)  # fmt: skip
_CONTROLS, _RIDGE = 10, 10.0
WHOLE_MODEL = -1
"""Layer of a value that belongs to no single layer."""


@dataclass(frozen=True)
class DepthOptions:
    """draws: directions of the noise; noise: its size as a share of the activations' standard deviation;
    batch_size: items of one forward pass."""

    draws: int = 3
    noise: float = 0.1
    batch_size: int = 64


def measure_depth(
    model: Any,
    tokenizer: Any,
    intervention: Intervention,
    items: pd.DataFrame,
    options: DepthOptions,
) -> pd.DataFrame:
    """Measure one arm on facts that it may have forgotten.

    Args:
        model: the base model; the same afterwards, bit for bit.
        tokenizer: its tokenizer.
        intervention: fitted to it.
        items: of `choose_items`.
        options: draws, noise and batch size.

    Returns:
        layer, measure, value, n. Measures, on n items:
        probe_auc, probe_control_auc, probe_selectivity: how well a linear probe tells right answers from
        wrong ones by `answer_features`, on held-out groups; the same for random labels; their
        difference. lens_log_p: mean log-probability of the right answers if the model
        ended there. patched_log_p: that of the base with this layer's output taken from the arm.
        perturbation_effect: change of the right answers' probability under noise at that layer, mean
        over draws; perturbation_sd: its standard deviation over draws. answer_probability (layer -1):
        without noise.

    Sources: Hewitt and Liang 2019 (arXiv 1909.03368); Lee et al. 2026 (arXiv 2605.24614).
    """
    right = items[items["right"]].reset_index(drop=True)
    wrong = items[~items["right"]].reset_index(drop=True)
    with intervention.applied(model) as arm:
        of_right = _states(arm, tokenizer, right, options)
        of_wrong = _states(arm, tokenizer, wrong, options)
        found = [
            *_probed(arm, of_right, of_wrong, right, wrong),
            *_lens(arm, of_right),
            *_perturbed(arm, of_right, options),
        ]
    found += _patched(model, of_right)
    return _table(found)


def _states(model: Any, tokenizer: Any, rows: pd.DataFrame, options: DepthOptions) -> list[States]:
    parts = stream.batches(tokenizer, rows["prompt"].tolist(), rows["answer"].tolist(), options.batch_size)
    return [stream.read_states(model, indices, batch) for indices, batch in parts]


Found = tuple[int, str, float, int]


def _probed(
    model: Any,
    right: list[States],
    wrong: list[States],
    right_rows: pd.DataFrame,
    wrong_rows: pd.DataFrame,
) -> list[Found]:
    answers = np.array([*right_rows["answer"], *wrong_rows["answer"]])
    groups = np.array([*right_rows["group"], *wrong_rows["group"]])
    # In mixed order, so that the random labels of the control task are as balanced as the true ones.
    order = np.random.default_rng(seed_from("depth order")).permutation(len(answers))
    task = ProbeTask(
        positive=order < len(right_rows),
        group=np.unique(groups[order], return_inverse=True)[1].astype(np.int64),
        kind=np.unique(answers[order], return_inverse=True)[1].astype(np.int64),
    )
    rows: list[Found] = []
    for layer in sorted(right[0].hidden):
        vectors = np.concatenate([_vectors(model, right, layer), _vectors(model, wrong, layer)])
        # One generator a layer: every arm is probed with the same folds and control labels.
        rng = np.random.default_rng(seed_from("depth probe", layer))
        result = probe(vectors[order], task, rng, controls=_CONTROLS, ridge=_RIDGE)
        for name, value in (
            ("probe_auc", result.auc),
            ("probe_control_auc", result.control_auc),
            ("probe_selectivity", result.selectivity),
        ):
            rows.append((layer, name, value, len(answers)))
    return rows


def _vectors(model: Any, parts: list[States], layer: int) -> np.ndarray:
    """`answer_features` of every item, in the order of the items, [items, width]."""
    width = parts[0].hidden[layer].shape[-1]
    vectors = np.zeros((sum(len(part.indices) for part in parts), width))
    for part in parts:
        vectors[part.indices] = stream.answer_features(model, part, layer).cpu().numpy()
    return vectors


def _lens(model: Any, parts: list[States]) -> list[Found]:
    layers = range(len(find_blocks(model)))
    return [
        (layer, "lens_log_p", *_mean([stream.lens_log_p(model, part, layer) for part in parts]))
        for layer in layers
    ]


def _patched(model: Any, parts: list[States]) -> list[Found]:
    layers = range(len(find_blocks(model)))
    return [
        (layer, "patched_log_p", *_mean([stream.patched_log_p(model, part, layer) for part in parts]))
        for layer in layers
    ]


def _perturbed(model: Any, parts: list[States], options: DepthOptions) -> list[Found]:
    clean, count = _mean([part.log_p.exp() for part in parts])
    rows: list[Found] = [(WHOLE_MODEL, "answer_probability", clean, count)]
    for layer in range(len(find_blocks(model))):
        effects = []
        for draw in range(options.draws):
            generator = torch.Generator().manual_seed(seed_from("perturbation", layer, draw))
            noisy = [stream.noisy_log_p(model, part, layer, options.noise, generator).exp() for part in parts]
            effects.append(_mean(noisy)[0] - clean)
        rows.append((layer, "perturbation_effect", float(np.mean(effects)), count))
        spread = float(np.std(effects, ddof=1)) if len(effects) > 1 else float("nan")
        rows.append((layer, "perturbation_sd", spread, options.draws))
    return rows


def _mean(values: list[Tensor]) -> tuple[float, int]:
    every = torch.cat(values).double()
    return float(every.mean()), len(every)


def _table(found: list[Found]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(found, columns=["layer", "measure", "value", "n"])
