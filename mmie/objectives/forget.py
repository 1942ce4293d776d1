"""Forget losses of whole answers, one value an item; the caller averages over items."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid


def gradient_ascent(nll_mean: Tensor) -> Tensor:
    """Plain ascent on the mean answer NLL, a control: unbounded below, it collapses models.

    With a retain term beside it, it is GradDiff.

    Args:
        nll_mean: L / T, [batch].

    Returns:
        [batch].

    Source: Maini et al. 2024 (arXiv 2401.06121), the TOFU baseline.
    """
    return -nll_mean


def bounded(nll_mean: Tensor, bound: float) -> Tensor:
    """Gradient ascent that saturates: -B tanh((L/T) / B), never below -B.

    The gradient weight on -grad L/T is 1 - tanh^2((L/T) / B). It is taken per item: with one value a
    batch, one forgotten item would silence all others.

    Args:
        nll_mean: L / T, nats a token, [batch].
        bound: B, nats a token; (log V) / 2 leaves a weight of 0.07 at the uniform distribution.

    Returns:
        [batch].
    """
    return -bound * (nll_mean / bound).tanh()


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


def simnpo(nll_mean: Tensor, beta: float, delta: float) -> Tensor:
    """NPO without a reference: -(2/beta) log sigma(beta (L/T - delta)), on the **mean** NLL.

    Args:
        nll_mean: L / T, nats a token, [batch].
        beta: inverse temperature.
        delta: margin in nats a token, inside the product with beta; the authors' code calls it gamma.

    Returns:
        [batch]; (2/beta) log 2 where L / T equals delta.

    Source: Fan et al. 2024 (arXiv 2410.07163).
    """
    return -(2.0 / beta) * logsigmoid(beta * (nll_mean - delta))


def preference(gain: Tensor, alternate_gain: Tensor, beta: float, scale: float) -> Tensor:
    """Prefer another answer: -s log sigma(beta ((L_f - L0_f) - (L_a - L0_a))).

    The other answer is a refusal (IDK-DPO) or a plausible alternate (AltPO). All NLLs are **summed**.

    Args:
        gain: L_f - L0_f of the answer to forget, nats, [batch].
        alternate_gain: L_a - L0_a of the answer to prefer, nats, [batch].
        beta: inverse temperature.
        scale: s; 1 is standard DPO, 2/beta the scale of NPO. Learning rates do not carry over.

    Returns:
        [batch]; s log 2 where the model equals its reference.

    Source: Maini et al. 2024 (arXiv 2401.06121) for IDK; Mekala et al. 2024 (arXiv 2409.13474) for AltPO.
    """
    return -scale * logsigmoid(beta * (gain - alternate_gain))
