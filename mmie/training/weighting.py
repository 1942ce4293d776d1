"""Forget rows drawn by difficulty (curriculum) and by what is still remembered (re-weighting).

The two weights multiply. Difficulty comes from the stored reference log-likelihoods, once; re-weighting
from a pass over all forget rows every few steps, never from a forward a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from mmie.errors import InputError
from mmie.io import seed_from
from mmie.training.batches import Examples
from mmie.training.reference import answer_sums
from mmie.training.settings import Curriculum, Reweighting

FIRST_THIRD, SECOND_THIRD = 0.33, 0.66
"""Ends of the first and second stage of a curriculum, as shares of the steps."""


def curriculum_weights(reference_mean: np.ndarray, share_done: float, curriculum: Curriculum) -> np.ndarray:
    """Sampling weights by difficulty, [rows], of mean 1.

    Difficulty is D = -L0/T, standardised: what the base remembers best is hardest to forget. easy_first
    draws by softmax(-D / temperature) in the first stage, so that weakly memorised rows come first, all
    alike in the second, by softmax(D / temperature) in the third; hard_first is the mirror image.

    Args:
        reference_mean: L0 / T of each row under the base, nats a token, [rows].
        share_done: share of the steps already taken.
        curriculum: order and temperature.
    """
    now = stage(share_done)
    if now == 1:
        return np.ones_like(reference_mean)
    spread = reference_mean.std()
    difficulty = -(reference_mean - reference_mean.mean()) / (spread if spread > 0 else 1.0)
    easy_now = (now == 0) == (curriculum.order == "easy_first")
    exponent = (-difficulty if easy_now else difficulty) / curriculum.temperature
    weights = np.exp(exponent - exponent.max())
    return weights / weights.mean()


def stage(share_done: float) -> int:
    """Stage of a curriculum, 0 to 2."""
    return int(share_done >= FIRST_THIRD) + int(share_done >= SECOND_THIRD)


def begins_stage(step: int, total: int) -> bool:
    """Whether step `step` of `total` is the first one of the second or third stage."""
    return step > 0 and stage(step / total) != stage((step - 1) / total)


def remembered_weights(mean: np.ndarray, reference_mean: np.ndarray, options: Reweighting) -> np.ndarray:
    """clip(exp(-(L/T - L0/T) / temperature), minimum, maximum), [rows], scaled to mean 1.

    Args:
        mean: L / T of each row now, nats a token, [rows].
        reference_mean: L0 / T under the base, [rows].
        options: temperature and limits.
    """
    # Clipped in the exponent: a row that the model has unlearned by 1000 nats must not overflow.
    exponent = -(mean - reference_mean) / options.temperature
    weights = np.exp(np.clip(exponent, np.log(options.minimum), np.log(options.maximum)))
    return weights / weights.mean()


class WeightedRows:
    """Draws forget rows with replacement; the state is the weights of the last pass alone."""

    def __init__(
        self,
        examples: Examples,
        reference_nll: Sequence[float],
        *,
        curriculum: Curriculum | None,
        reweighting: Reweighting | None,
        language_weights: Mapping[str, float] | None,
        seed: int,
        batch_size: int,
    ) -> None:
        """Prepare to draw.

        Args:
            examples: the forget rows; all of them can be drawn.
            reference_nll: summed answer NLL under the base, nats, [rows].
            curriculum: None for no order by difficulty.
            reweighting: None for no weights by what is remembered.
            language_weights: share of each language; None: as the weights fall.
            seed: of the draws.
            batch_size: rows in a forward pass.
        """
        self.examples = examples
        self.lengths = np.array(examples.answer_lengths, dtype=np.float64)
        self.reference_mean = np.array(reference_nll, dtype=np.float64) / self.lengths
        self.curriculum, self.reweighting = curriculum, reweighting
        self.language_weights = language_weights
        self.remembered = np.ones(len(examples))
        self._seed, self._batch_size = seed, batch_size
        missing = sorted(set(examples.languages) - set(language_weights or examples.languages))
        if missing:
            raise InputError(f"language_weights: no weight for {missing}. Add it, or remove the weights.")

    def refresh(self, model: nn.Module, step: int) -> bool:
        """Measure what is still remembered, where it is due; never at step 0, where nothing has changed."""
        if self.reweighting is None or step == 0 or step % self.reweighting.every:
            return False
        mean = np.array(answer_sums(model, self.examples, self._batch_size)) / self.lengths
        self.remembered = remembered_weights(mean, self.reference_mean, self.reweighting)
        return True

    def probabilities(self, share_done: float) -> np.ndarray:
        """Probability of each row to be the next draw, [rows]."""
        weights = self.remembered.copy()
        if self.curriculum is not None:
            weights *= curriculum_weights(self.reference_mean, share_done, self.curriculum)
        if self.language_weights is not None:
            languages = np.array(self.examples.languages)
            for language in sorted(set(self.examples.languages)):
                own = languages == language
                weights[own] *= self.language_weights[language] / weights[own].sum()
        return weights / weights.sum()

    def draw(self, count: int, step: int, total: int) -> list[int]:
        """Rows of step `step` of `total`."""
        generator = np.random.default_rng(seed_from("weighted", self._seed, step))
        return generator.choice(len(self.examples), count, p=self.probabilities(step / total)).tolist()

    def state(self) -> torch.Tensor:
        """Weights of the last pass, [rows]."""
        return torch.from_numpy(self.remembered.copy())

    def restore(self, state: torch.Tensor) -> None:
        """Put the weights of the last pass back."""
        self.remembered = state.numpy().copy()
