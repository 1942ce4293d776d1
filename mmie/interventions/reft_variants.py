"""Edits of the stream that are learned the other way round, or open only where they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmie.errors import InputError
from mmie.interventions.fine_tuning import FineTuning, OwnObjective
from mmie.interventions.interface import FitData
from mmie.interventions.reft import VARIANTS, Loreft, LoreftEdit, Variant
from mmie.interventions.trained import encoded, read_settings, run_training, training_sets
from mmie.io import seed_from
from mmie.models.hooks import Edit, capture
from mmie.training.batches import CyclicBatches, Examples
from mmie.training.forward import answer_logits
from mmie.training.sets import TrainingSets
from mmie.training.terms import micro_batches

START = -4.0
"""Bias of a gate before training: it is open by 0.018."""


@dataclass
class NegativeReft(OwnObjective, Loreft):
    """h - strength (Phi(h) - h), Phi a ReFT edit that was trained to make forget answers likelier.

    No retain row is read. A sign inside Phi would be absorbed by training; here it comes afterwards.
    """

    kind: ClassVar[str] = "negative_reft"

    strength: float = 1.0
    """0 is the identity, -1 the edit that was learned."""
    training: FineTuning | dict[str, Any] = field(default_factory=FineTuning)  # type: ignore[assignment]
    """The learning of the forget answers."""

    def _train(
        self,
        model: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        data: FitData,
        *,
        layers: list[int],
        base_hash: str,
        seed: int,
    ) -> None:
        if data.forget is None or data.tokenizer is None:
            raise InputError("arm of kind 'negative_reft': it needs a tokenizer and forget rows. Give both.")
        forget = encoded(model, data.forget, data.tokenizer, "forget")
        sets = TrainingSets(forget, [0.0] * len(forget), retain=forget)
        settings = self._read_training().settings(
            forget_weight=0.0, retain_weight=1.0, retain_objective="nll"
        )
        options = {name: value for name, value in self.options().items() if name != "strength"}
        recipe = {"kind": self.kind, "options": options, "layers": layers, "base": base_hash}
        history = run_training(model, parameters, sets, settings, data, seed=seed, recipe=recipe)
        self.history = history.rename(
            columns={"retain_loss": "learning_loss", "retain_items": "learning_items"}
        )

    def _fixed(self, tensors: Mapping[str, Tensor]) -> Edit:
        learned, strength = super()._fixed(tensors), self.strength

        def opposite(hidden: Tensor, keep: Tensor) -> Tensor:
            return hidden - strength * (learned(hidden, keep) - hidden)

        return opposite


class GatedEdit(LoreftEdit):
    """h + g(h) (Phi(h) - h) with g = sigmoid(w . h + b), a number a token; b starts at -4, w at 0."""

    def __init__(self, rank: int, width: int, generator: torch.Generator, variant: Variant) -> None:
        """As `LoreftEdit`, with a gate."""
        super().__init__(rank, width, generator, variant)
        self.gate_weight = nn.Parameter(torch.zeros(width))
        self.gate_bias = nn.Parameter(torch.full((1,), START))
        self.seen: tuple[Tensor, Tensor] | None = None
        """Openings [batch, time] and kept tokens of the latest pass."""

    def forward(self, hidden: Tensor, keep: Tensor) -> Tensor:
        opening = gate_opening(hidden, self.gate_weight, self.gate_bias)
        self.seen = opening, keep
        return gated(hidden, super().forward(hidden, keep), opening)

    def stored(self) -> dict[str, Tensor]:
        return {**super().stored(), "gate_weight": self.gate_weight, "gate_bias": self.gate_bias}


@dataclass
class GatedReft(Loreft):
    """ReFT behind a gate that looks at the token, closed where retain text is read.

    The mean opening over retain tokens is a term of the loss with weight `sparsity`. Openings on FIT rows are
    in `intervention.json`.

    Source: related to Ren et al. 2025 (arXiv 2502.17823).
    """

    kind: ClassVar[str] = "gated_reft"

    sparsity: float = 1.0
    """Weight of the mean opening over retain tokens."""

    def _learn(
        self,
        edits: Mapping[int, LoreftEdit],
        model: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        data: FitData,
        **run: Any,
    ) -> dict[str, Any]:
        seed = run["seed"]
        recipe = {
            "kind": self.kind,
            "options": self.options(),
            "base": run["base_hash"],
            "layers": run["layers"],
        }
        settings, sets = read_settings(self.training), training_sets(model, data)
        size = settings.retain_batch
        gates = OpeningTerm(model, sets.retain, edits, self.sparsity, size, seed=seed)
        self.history = run_training(
            model, parameters, sets, settings, data, seed=seed, recipe=recipe, auxiliary=gates
        )
        named = {"forget": sets.forget, "retain": sets.retain}
        return {"openings": {name: opening(model, rows, edits, size) for name, rows in named.items()}}

    def _shapes(self, facts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        gates = {
            f"layers.{layer}.{name}": shape
            for layer in facts["layers"]
            for name, shape in (("gate_weight", (facts["width"],)), ("gate_bias", (1,)))
        }
        return {**super()._shapes(facts), **gates}

    def _edit(self, layer: int, width: int, seed: int) -> GatedEdit:
        generator = torch.Generator().manual_seed(seed_from("reft", seed, layer))
        return GatedEdit(self.rank, width, generator, self.variant)

    def _fixed(self, tensors: Mapping[str, Tensor]) -> Edit:
        Q, W, b = tensors["Q"], tensors["W"], tensors["b"]

        def edited(hidden: Tensor, keep: Tensor) -> Tensor:
            opened = gate_opening(hidden, tensors["gate_weight"], tensors["gate_bias"])
            return gated(hidden, VARIANTS[self.variant](hidden, Q, W, b), opened)

        return edited


class OpeningTerm:
    """weight * mean opening of all gates over retain tokens; its rows follow from the number of the step."""

    def __init__(
        self,
        model: nn.Module,
        examples: Examples,
        edits: Mapping[int, LoreftEdit],
        weight: float,
        batch: int,
        *,
        seed: int,
    ) -> None:
        """The edits are attached to the model."""
        self.model, self.examples, self.edits = model, examples, edits
        self.weight, self.batch = weight, batch
        self._order = CyclicBatches(examples.languages, batch, seed=seed_from(seed, "openings"))

    def accumulate(self, number: int, total: int, *, size: int | None, where: str) -> dict[str, float]:
        """Add the gradient of one step; see `mmie.training.terms.Auxiliary`."""
        rows = self._order.rows(range(number * self.batch, (number + 1) * self.batch))
        count = sum(len(self.examples.encoded[row].ids) - 1 for row in rows) * len(self.edits)
        summed = 0.0
        for part in micro_batches(rows, size):
            value = opened_sum(self.model, self.examples, self.edits, part)
            (self.weight * value / count).backward()
            summed += value.item()
        return {"opening": summed / count}


def opened_sum(
    model: nn.Module, examples: Examples, edits: Mapping[int, LoreftEdit], rows: Sequence[int]
) -> Tensor:
    """Sum of the openings of all gates over the kept tokens of some rows."""
    with capture(model, [max(edits)], stop=True):
        # Blocks after the last gate are not run.
        answer_logits(model, examples.batch(rows))
    seen = [module.seen for module in edits.values() if isinstance(module, GatedEdit) and module.seen]
    return torch.stack([(values * keep).sum().to(seen[0][0].device) for values, keep in seen]).sum()


def opening(model: nn.Module, examples: Examples, edits: Mapping[int, LoreftEdit], size: int) -> float:
    """Mean opening over the tokens of all rows and over the gates, in [0, 1]."""
    with torch.no_grad():
        parts = micro_batches(range(len(examples)), size)
        summed = sum(float(opened_sum(model, examples, edits, part)) for part in parts)
    return summed / (sum(len(item.ids) - 1 for item in examples.encoded) * len(edits))


def gate_opening(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """sigmoid(w . h + b) of each token: [batch, time, width] to float32 [batch, time]."""
    return torch.sigmoid(hidden.float() @ weight + bias)


def gated(hidden: Tensor, edited: Tensor, opened: Tensor) -> Tensor:
    """h + g (Phi(h) - h), in the type of the stream."""
    return hidden + (opened.unsqueeze(-1) * (edited - hidden).float()).to(hidden.dtype)
