"""The contrastive term of the total: contrast, refusals and benign answers from one forward of 3B rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmie.contrastive.losses import infonce, linear, triplet
from mmie.contrastive.representation import (
    ProjectionHead,
    cosines,
    effective_rank,
    pairwise_cosine,
    pooled,
)
from mmie.contrastive.rows import TripleRows, prompt_tokens, with_answer
from mmie.contrastive.settings import ContrastSettings, triples_at_once
from mmie.io import seed_from
from mmie.models.hooks import capture, disabled
from mmie.objectives.masking import answer_nll
from mmie.training.batches import CyclicBatches
from mmie.training.divergence import TrainingDiverged, require_finite
from mmie.training.forward import answer_logits
from mmie.training.terms import micro_batches


@dataclass(frozen=True)
class Pass:
    """What one forward of 3n rows gives."""

    vectors: Tensor
    """Pooled prompts, [anchor/counterfactual/attack, layers, n, width], float32."""
    benign_nll: Tensor
    """Mean answer NLL of each benign row with an answer, nats a token."""
    refusal_nll: Tensor
    """Mean answer NLL of each refusal, nats a token, [n]."""


@dataclass
class _Seen:
    """Of the micro-batches of a step, without gradient."""

    contrast: list[Tensor] = field(default_factory=list)
    benign: list[Tensor] = field(default_factory=list)
    refusal: list[Tensor] = field(default_factory=list)
    vectors: list[Tensor] = field(default_factory=list)


class ContrastTerm:
    """lambda_c L_C + refusal_weight L_X + benign_weight L_B, each divided by its count in the whole step."""

    def __init__(
        self,
        model: nn.Module,
        rows: TripleRows,
        layers: Sequence[int],
        settings: ContrastSettings,
        *,
        head: ProjectionHead | None,
        seed: int,
    ) -> None:
        """Read the base's vectors of every triple once; the model may carry its intervention already."""
        self.model, self.rows, self.layers = model, rows, list(layers)
        self.settings, self.head = settings, head
        self.batch = min(settings.batch, len(rows))
        self._order = CyclicBatches(rows.languages, self.batch, seed=seed_from(seed, "triples"))
        with torch.no_grad(), disabled(model):
            self.base = self.vectors()

    def vectors(self, size: int = 32) -> Tensor:
        """Pooled prompts of every triple under the model as it is, [3, layers, triples, width]."""
        parts = micro_batches(range(len(self.rows)), size)
        with torch.no_grad():
            return torch.cat([self.forward(part).vectors for part in parts], dim=2)

    def forward(self, part: Sequence[int]) -> Pass:
        """One forward of 3n rows: representations of the prompts and likelihoods of the responses."""
        batch = self.rows.batch(part)
        with capture(self.model, self.layers) as seen:
            logits, targets, mask = answer_logits(self.model, batch)
        prompt = prompt_tokens(batch)
        layers = [
            pooled(seen.hidden[layer], prompt.to(seen.hidden[layer].device), self.settings.pool).to(
                mask.device
            )
            for layer in self.layers
        ]
        vectors = torch.stack(layers).unflatten(1, (3, len(part))).transpose(0, 1)
        with_one = with_answer(mask)
        nll_sum, lengths = answer_nll(logits[with_one], targets[with_one], mask[with_one])
        means = nll_sum / lengths
        benign = with_one < 2 * len(part)
        return Pass(vectors, means[benign], means[~benign])

    def contrast(self, vectors: Tensor, base: Tensor) -> Tensor:
        """L_C of each triple, mean over layers, [n].

        Args:
            vectors: of the arm, [3, layers, n, width].
            base: of the base, the same shape.
        """
        anchor = {"frozen_base": base[0], "stop_grad": vectors[0].detach(), "live": vectors[0]}
        return contrast_loss(anchor[self.settings.anchor], vectors[1], vectors[2], self.settings, self.head)

    def accumulate(self, number: int, total: int, *, size: int | None, where: str) -> dict[str, float]:
        """Add the gradient of one step; see `mmie.training.terms.Auxiliary`.

        Raises:
            TrainingDiverged: a loss is not finite, or the representations collapse.
        """
        drawn = self._order.rows(range(number * self.batch, (number + 1) * self.batch))
        weight = self.settings.ramp(number, total)
        benign = max(1, self.rows.benign_answers(drawn))
        seen = _Seen()
        for part in micro_batches(drawn, None if size is None else triples_at_once(size)):
            found = self.forward(part)
            contrast = self.contrast(found.vectors, self.base[:, :, list(part)])
            keys = [self.rows.keys[row] for row in part]
            require_finite(contrast, keys, f"{where}: contrast")
            require_finite(found.refusal_nll, keys, f"{where}: refusal")
            require_finite(found.benign_nll.sum().expand(len(part)), keys, f"{where}: benign answers")
            loss = weight * contrast.sum() / len(drawn)
            loss = loss + self.settings.refusal_weight * found.refusal_nll.sum() / len(drawn)
            loss = loss + self.settings.benign_weight * found.benign_nll.sum() / benign
            loss.backward()
            seen.contrast.append(contrast.detach())
            seen.benign.append(found.benign_nll.detach())
            seen.refusal.append(found.refusal_nll.detach())
            seen.vectors.append(found.vectors.detach())
        return self._columns(seen, drawn, weight, where)

    def geometry(self, vectors: Tensor) -> dict[str, float]:
        """What raw vectors [3, layers, n, width] look like, mean over layers; no head."""
        columns: dict[str, float] = {
            "cos_ap": float(cosines(vectors[0], vectors[1]).mean()),
            "cos_ax": float(cosines(vectors[0], vectors[2]).mean()),
        }
        columns["discrimination"] = columns["cos_ap"] - columns["cos_ax"]
        anchors = list(vectors[0])
        columns["anchor_similarity"] = sum(map(pairwise_cosine, anchors)) / len(anchors)
        columns["effective_rank"] = sum(map(effective_rank, anchors)) / len(anchors)
        return columns

    def measure(self) -> dict[str, float]:
        """Geometry and L_C of all triples under the model as it is."""
        vectors = self.vectors()
        with torch.no_grad():
            loss = self.contrast(vectors, self.base)
        return {**self.geometry(vectors), "contrast_loss": float(loss.mean())}

    def _columns(self, seen: _Seen, drawn: Sequence[int], weight: float, where: str) -> dict[str, float]:
        vectors = torch.cat(seen.vectors, dim=2)
        geometry = self.geometry(vectors)
        start = self.geometry(self.base[:, :, list(drawn)])["anchor_similarity"]
        refuse_collapse(geometry["anchor_similarity"], start, self.settings.collapse_limit, where)
        benign = torch.cat(seen.benign)
        return {
            "contrast_loss": float(torch.cat(seen.contrast).mean()),
            "contrast_weight": weight,
            "refusal_nll": float(torch.cat(seen.refusal).mean()),
            "benign_nll": float(benign.mean()) if len(benign) else 0.0,
            "triples": float(len(drawn)),
            **geometry,
        }


class HeadTerm:
    """The contrastive loss alone, for a head on the base's own vectors: the control `head_only`."""

    name = "retain"

    def __init__(self, term: ContrastTerm, examples: Any) -> None:
        """`examples` name the triples; the model itself is not run again."""
        self.term, self.examples = term, examples

    def count(self, rows: Sequence[int]) -> int:
        return len(rows)

    def sums(self, rows: Sequence[int]) -> tuple[Tensor, None]:
        base = self.term.base[:, :, list(rows)]
        return self.term.settings.weight * self.term.contrast(base, base), None


def contrast_loss(
    anchor: Tensor,
    counterfactual: Tensor,
    attack: Tensor,
    settings: ContrastSettings,
    head: ProjectionHead | None = None,
) -> Tensor:
    """The configured loss of each triple, mean over layers.

    Args:
        anchor: pooled vectors, [layers, n, width].
        counterfactual: the same shape.
        attack: the same shape.
        settings: loss and its options.
        head: applied to all three before the cosines.

    Returns:
        [n].
    """
    if head is not None:
        anchor, counterfactual, attack = head(anchor), head(counterfactual), head(attack)
    anchor, counterfactual, attack = (normalize(value, dim=-1) for value in (anchor, counterfactual, attack))
    positive, negative = (anchor * counterfactual).sum(-1), (anchor * attack).sum(-1)
    if settings.loss == "linear":
        return linear(positive, negative, temperature=settings.temperature).mean(0)
    if settings.loss == "triplet":
        return triplet(positive, negative, margin=settings.margin).mean(0)
    others = anchor @ attack.transpose(-1, -2) if settings.negatives == "in_batch" else negative.unsqueeze(-1)
    return infonce(positive, others, temperature=settings.temperature).mean(0)


def refuse_collapse(similarity: float, base: float, limit: float, where: str) -> None:
    """Stop a run in which different anchors become one.

    Raises:
        TrainingDiverged: their mean cosine rose above the base's by more than `limit`.
    """
    if similarity - base > limit:
        raise TrainingDiverged(
            f"{where}: representations collapse: the mean cosine of different anchors is {similarity:.3f}, "
            f"{base:.3f} in the base. Lower contrast.weight, or raise contrast.collapse_limit."
        )
