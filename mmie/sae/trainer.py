"""One update of an autoencoder: gradients, unit decoder rows, Adam, and a clock of dead latents."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mmie.errors import InputError
from mmie.sae.autoencoder import SparseAutoencoder
from mmie.sae.decorrelation import decoder_overlap, decoder_overlap_gradient
from mmie.sae.gated import GatedSAE
from mmie.sae.gradients import Gradients, step_gradients
from mmie.sae.jumprelu import BatchTopKSAE, JumpReLUSAE
from mmie.sae.options import SaeOptions
from mmie.sae.selection import Screen, largest, rows_in_cache, screens
from mmie.sae.threshold_losses import autograd_gradients, gated_loss, jumprelu_loss
from mmie.sae.topk import TopKSAE

TARGET_WEIGHT = 0.1
"""Default of `sparsity_weight`."""
GATE_WEIGHT = 0.1
"""First weight of the gate values; every step moves it towards the one at which k latents fire."""
GATE_PACE = 0.02


class Trainer:
    """Adam on unit-norm decoder rows, with a clock of when each latent fired last.

    Args:
        sae: initialised; changed in place.
        options: size and training.
        variance: mean squared distance of the training rows from their mean.
        steps: updates of the whole run.
        budget: rows of the whole run.
    """

    def __init__(
        self, sae: SparseAutoencoder, options: SaeOptions, variance: float, *, steps: int, budget: int
    ) -> None:
        self.sae, self.options, self.variance, self.steps = sae, options, variance, steps
        self.rate = options.learning_rate or 2e-4 / math.sqrt(sae.latents / 2**14)
        # JumpReLU's thresholds are moved by rare events, which a running mean smears (arXiv 2407.14435).
        betas = (0.0 if options.architecture == "jumprelu" else 0.9, 0.999)
        others = [value for name, value in sae.named_parameters() if name != "w_dec"]
        groups = [
            {"params": others, "factor": 1.0},
            {"params": [sae.w_dec], "factor": options.decoder_rate},
        ]
        self.optimiser = torch.optim.Adam(groups, lr=self.rate, betas=betas, fused=True)
        self.window = options.dead_window * budget
        device = sae.b_dec.device
        self.silent_for = torch.zeros(sae.latents, dtype=torch.long, device=device)
        screened = options.encoder == "auto" and isinstance(sae, TopKSAE) and screens(sae.b_dec)
        self.screen = Screen() if screened else None
        self.sparsity = GATE_WEIGHT if isinstance(sae, GatedSAE) else options.sparsity_weight or TARGET_WEIGHT
        self.losses: list[float] = []
        self._turn = 0

    def dead(self) -> Tensor:
        """Latents without firing for longer than the window, [latents], bool."""
        return self.silent_for > self.window

    def _next_dead(self) -> Tensor:
        """Dead latents that the auxiliary loss of this step may revive, [latents], bool: `width` at most.

        They take turns: with most latents dead, products with all of them would cost more than all else.
        """
        dead = self.dead()
        places = dead.nonzero()[:, 0]
        most = self.sae.width
        if len(places) <= most:
            return dead
        start = self._turn % len(places)
        self._turn += most
        chosen = torch.zeros_like(dead)
        chosen[places.roll(-start)[:most]] = True
        return chosen

    def step(self, x: Tensor, at: int) -> None:
        """One update on rows [batch, width], the step `at` of the run.

        Raises:
            InputError: the loss is not finite.
        """
        if at == 0:
            self._prepare(x)
        found = self.gradients(x)
        value = float(found.loss)
        if not math.isfinite(value):
            raise InputError(f"sae: the loss is {value} at step {at}. Lower sae.learning_rate.")
        self.set_gradients(found)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * group["factor"] * self._schedule(at)
        self.optimiser.step()
        self._restore_constraints()
        self.silent_for += len(x)
        self.silent_for[found.fired] = 0
        self.losses.append(value)
        if isinstance(self.sae, GatedSAE):
            excess = math.log(max(found.firings, 0.1) / self.sae.k)
            self.sparsity *= math.exp(GATE_PACE * max(-1.0, min(1.0, excess)))

    def gradients(self, x: Tensor) -> Gradients:
        """Loss of rows [batch, width] and its gradients, without the decorrelation term."""
        sae, dead, weight = self.sae, self._next_dead(), self.options.auxiliary_weight
        if isinstance(sae, TopKSAE | BatchTopKSAE):
            # The last step's gradients have served; a step in fresh memory takes a third longer.
            last = sae.w_dec.grad, sae.w_enc.grad
            into = None if last[0] is None or last[1] is None else (last[0], last[1])
            return step_gradients(sae, x, self.variance, dead, weight, screen=self.screen, into=into)
        learnt = gated_loss if isinstance(sae, GatedSAE) else jumprelu_loss
        value, codes = learnt(sae, x, self.variance, dead, weight, self.sparsity)  # type: ignore[arg-type]
        return autograd_gradients(sae, value, codes)

    @torch.no_grad()
    def set_gradients(self, found: Gradients) -> None:
        """Hand gradients to the optimiser: decoder rows may only turn, and the norm is clipped."""
        sae = self.sae
        for name, parameter in sae.named_parameters():
            parameter.grad = found.parameters[name]
        gradient = found.parameters["w_dec"]
        if self.options.decorrelation:
            gradient.add_(decoder_overlap_gradient(sae.w_dec), alpha=self.options.decorrelation)
            found.loss.add_(self.options.decorrelation * decoder_overlap(sae.w_dec))
        at_once = rows_in_cache(gradient)
        for part, rows in zip(gradient.split(at_once), sae.w_dec.split(at_once), strict=True):
            part.addcmul_((part * rows).sum(1, keepdim=True), rows, value=-1)
        gradients = [parameter.grad for parameter in sae.parameters() if parameter.grad is not None]
        norm = torch.stack([torch.linalg.vector_norm(one) for one in gradients]).norm()
        if norm > self.options.clip:
            for one in gradients:
                one.mul_(self.options.clip / norm)

    def tenths(self) -> list[float]:
        """Mean loss in each tenth of the run."""
        return [float(part.mean()) for part in np.array_split(self.losses, 10) if len(part)]

    @torch.no_grad()
    def _prepare(self, x: Tensor) -> None:
        """Scale the tied encoder so that its first reconstructions are as long as they should be.

        The sum of k codes overshoots; which latents fire does not depend on the factor.
        """
        sae = self.sae
        values, indices = largest(sae.pre_activations(x), sae.k)
        estimate = sae.decode(values.relu(), indices) - sae.b_dec
        length = estimate.square().sum()
        if length > 0:
            sae.w_enc.mul_(((x - sae.b_dec) * estimate).sum() / length)
        if self.options.architecture == "jumprelu":
            # Thresholds start where k latents fire; from 0, short runs never come down to k.
            assert isinstance(sae, JumpReLUSAE)
            sae.calibrate(x)

    @torch.no_grad()
    def _restore_constraints(self) -> None:
        # Adam moves rows along themselves again, so projecting the gradient is not enough.
        self.sae.w_dec.div_(torch.linalg.vector_norm(self.sae.w_dec, dim=1, keepdim=True))
        if isinstance(self.sae, JumpReLUSAE):
            self.sae.threshold.clamp_(min=0)

    def _schedule(self, at: int) -> float:
        """Factor of the rate: linear rise, plateau, linear fall to 0."""
        rise = max(1.0, self.options.warmup * self.steps)
        fall = max(1.0, self.options.decay * self.steps)
        return min(1.0, (at + 1) / rise, (self.steps - at) / fall)
