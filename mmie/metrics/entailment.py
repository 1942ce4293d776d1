"""Semantic agreement of two texts from the probabilities of a natural-language-inference model.

Pure functions: no such model is shipped or loaded. With one of your own, calibrate a threshold a language
(`mmie.metrics.judging`) before anything rests on it, and read class indices from the model's label map.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmie.errors import InputError


@dataclass(frozen=True)
class Entailment:
    """Probabilities that one text entails, contradicts, or says nothing about the other; they sum to 1."""

    entailment: float
    contradiction: float
    neutral: float

    def __post_init__(self) -> None:
        parts = (self.entailment, self.contradiction, self.neutral)
        if min(parts) < 0 or abs(sum(parts) - 1.0) > 1e-3:
            raise InputError(f"entailment: {parts} are no probabilities. Check the model's label map.")


def symmetric_entailment(forward: Entailment, backward: Entailment) -> float:
    """NLI-sym = (e_ab + e_ba)/2 * (1 - max(c_ab, c_ba)) * (1 - max(n_ab, n_ba)).

    Range [0, 1], down on forget; 1 for texts that entail each other for certain.
    Source: Xiang et al. 2026 (arXiv 2606.03291).
    """
    return (
        (forward.entailment + backward.entailment)
        / 2
        * (1 - max(forward.contradiction, backward.contradiction))
        * (1 - max(forward.neutral, backward.neutral))
    )
