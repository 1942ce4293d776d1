"""RMU: the stream at forget answers is pushed to a random direction, that at retain answers held."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mmie.errors import InputError
from mmie.interventions.deltas import moved, trainable_deltas, weight_names
from mmie.interventions.fine_tuning import FineTuning
from mmie.interventions.full import change_facts, change_shapes, stored
from mmie.interventions.interface import FitData, Fitted, Intervention, base_weights_hash
from mmie.interventions.reft import residual_width
from mmie.interventions.trained import run_training, sets_without_reference
from mmie.io import seed_from
from mmie.models.blocks import block_device, find_blocks
from mmie.models.hooks import capture, disabled
from mmie.objectives.registry import item_sums
from mmie.objectives.retain import hidden_distance
from mmie.training.batches import Examples
from mmie.training.forward import answer_logits

DIRECTION = "control_vector"
"""Name of the saved unit vector, [width]."""


@dataclass
class Rmu(Intervention):
    """RMU and adaptive RMU on a few weight matrices.

    L_F is the mean over forget answer tokens of norm(h - c u)^2 / width, L_R that of
    norm(h - h0)^2 / width over retain answer tokens, both where the token is predicted, h the output of
    block `layer`. u is a Gaussian unit vector, drawn from the seed and saved. Fixed: c = `coefficient`.
    Adaptive: c = `coefficient` * norm(h0) of the same token.

    Source: Li et al. 2024 (arXiv 2403.03218); adaptive: Huu-Tien et al. 2024 (arXiv 2408.06223).
    """

    kind: ClassVar[str] = "rmu"
    tensor_file: ClassVar[str] = "delta.safetensors"

    layer: Literal["selected"] | int = "selected"
    """Block whose output is steered; selected: the deepest selected one."""
    depth: int = 3
    """Blocks whose weights are trained, `layer` and those before it."""
    targets: list[str] = field(default_factory=lambda: ["down_proj"])
    """Names of the modules whose weight is trained."""
    adaptive: bool = True
    """Whether the target's length follows each token's own."""
    coefficient: float = 5.0
    """Target's length: adaptive, in lengths of the base's stream at the token; else absolute."""
    retain_weight: float = 1.0
    """alpha."""
    training: FineTuning | dict[str, Any] = field(default_factory=FineTuning)
    """The run of the loop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.training = FineTuning.read(self.training, self.kind)
        if self.depth < 1 or self.coefficient <= 0 or self.retain_weight <= 0:
            raise InputError("arm of kind 'rmu': depth, coefficient and retain_weight must be above 0.")

    @property
    def seeded(self) -> bool:
        return True

    def options(self) -> dict[str, Any]:
        return super().options() | {"training": FineTuning.read(self.training, self.kind).as_options()}

    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        # The reference of this objective is the stream, not stored likelihoods.
        sets = sets_without_reference(model, data, self.kind)
        layer, updated = self._places(model, data)
        settings = FineTuning.read(self.training, self.kind).settings(
            retain_objective="hidden", retain_layers=[layer], retain_weight=self.retain_weight
        )
        u = control_vector(residual_width(model), seed)
        recipe = {"kind": self.kind, "options": self.options(), "base": base_weights_hash(model)}
        term = RmuTerm(model, sets.forget, layer, u, self.coefficient, adaptive=self.adaptive)
        with trainable_deltas(model, weight_names(model, updated, self.targets)) as deltas:
            self.history = run_training(
                model, deltas, sets, settings, data, seed=seed, recipe=recipe, own_terms={"forget": term}
            )
            facts = {"layer": layer, "layers": updated, "width": len(u), **change_facts(deltas)}
            return Fitted(facts, {**stored(deltas), DIRECTION: u})

    @contextmanager
    def _attach(self, model: nn.Module) -> Iterator[nn.Module]:
        tensors = self._require_fit().tensors
        with moved(model, {name: value for name, value in tensors.items() if name != DIRECTION}):
            yield model

    def _shapes(self, facts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        return {**change_shapes(facts), DIRECTION: (facts["width"],)}

    def _places(self, model: nn.Module, data: FitData) -> tuple[int, list[int]]:
        """The steered block and the trained ones."""
        count = len(find_blocks(model))
        if self.layer == "selected" and not data.layers:
            raise InputError(
                "arm of kind 'rmu': no layer was selected. Run the layer stage, or give a number."
            )
        layer = max(data.layers) if self.layer == "selected" else int(self.layer)
        if not 0 <= layer < count:
            raise InputError(f"arm of kind 'rmu': layer {layer} is none of the {count} blocks. Give another.")
        return layer, list(range(max(0, layer - self.depth + 1), layer + 1))


def control_vector(width: int, seed: int) -> Tensor:
    """A unit vector of uniform direction, [width].

    From Gaussian numbers: uniform ones in [0, 1) all lie in one orthant, where any two vectors have a
    cosine of about 0.75.
    """
    generator = torch.Generator().manual_seed(seed_from("rmu", seed))
    drawn = torch.randn(width, generator=generator)
    return drawn / drawn.norm()


class RmuTerm:
    """The forget term of RMU: distance of the stream from c u, a token."""

    name = "forget"

    def __init__(
        self,
        model: nn.Module,
        examples: Examples,
        layer: int,
        direction: Tensor,
        coefficient: float,
        *,
        adaptive: bool,
    ) -> None:
        """Prepare; `direction` is a unit vector [width]."""
        self.model, self.examples, self.layer = model, examples, layer
        self.direction = direction.to(block_device(find_blocks(model)[layer]))
        self.coefficient, self.adaptive = coefficient, adaptive
        self._lengths = examples.answer_lengths

    def count(self, rows: Sequence[int]) -> int:
        return sum(self._lengths[row] for row in rows)

    def sums(self, rows: Sequence[int]) -> tuple[Tensor, None]:
        batch = self.examples.batch(rows)
        mask = batch.answer_mask[:, 1:].to(self.direction.device)
        hidden = self._stream(rows)[:, :-1][mask]
        length: Tensor | float = self.coefficient
        if self.adaptive:
            with torch.no_grad(), disabled(self.model):
                length = self.coefficient * self._stream(rows)[:, :-1][mask].float().norm(
                    dim=-1, keepdim=True
                )
        target = (length * self.direction).expand_as(hidden)
        return item_sums(hidden_distance(hidden, target), mask), None

    def _stream(self, rows: Sequence[int]) -> Tensor:
        """Output of the steered block, [batch, time, width]; later blocks are not computed."""
        with ExitStack() as stack:
            seen = stack.enter_context(capture(self.model, [self.layer], stop=True))
            answer_logits(self.model, self.examples.batch(rows))
        return seen.hidden[self.layer]
