"""Forget losses, one value an item; the caller averages over items."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid


def npo(nll_sum: Tensor, reference_nll_sum: Tensor, beta: float) -> Tensor:
    """Negative preference optimisation: -(2/beta) log sigma(beta (L - L0)).

    The gradient weight on -grad L is 2 sigma(-beta (L - L0)): 1 at the start, 0.013 after a gain of
    50 nats at beta 0.1. This brake needs L **summed** over the answer; with the mean it is gone.

    Args:
        nll_sum: L, summed answer NLL under the trained model, nats, [batch].
        reference_nll_sum: L0, the same under the frozen reference, [batch].
        beta: inverse temperature.

    Returns:
        [batch]; (2/beta) log 2 where the model equals its reference.

    Source: Zhang et al. 2024 (arXiv 2404.05868).
    """
    return -(2.0 / beta) * logsigmoid(beta * (nll_sum - reference_nll_sum))


def gradient_ascent(nll_mean: Tensor) -> Tensor:
    """Plain ascent on the mean answer NLL, a control: unbounded below, it collapses models.

    Args:
        nll_mean: L / T, [batch].

    Returns:
        [batch].

    Source: Maini et al. 2024 (arXiv 2401.06121), the TOFU baseline.
    """
    return -nll_mean
