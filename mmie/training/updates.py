"""One optimiser over the parameters, or, declared, one a term with moments of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmie.errors import InputError
from mmie.training.divergence import TrainingDiverged
from mmie.training.plan import Step, learning_rate, warmup_steps
from mmie.training.settings import TrainingSettings

QUANTITIES = ("exp_avg", "exp_avg_sq", "step")
"""What AdamW remembers of a parameter."""


class Updates:
    """AdamW steps, their rates and their state.

    With two optimisers each has its own moments, rate and step count, and weight decay acts in the retain
    optimiser alone: Adam cancels the scale of a loss, so that with two of them the rates are the weights.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        settings: TrainingSettings,
        plan: Sequence[Step],
        retain_limit: float | None = None,
    ) -> None:
        """Build the optimisers.

        Args:
            parameters: all that is trained, by name.
            settings: of the run.
            plan: all steps; each optimiser's schedule counts its own.
            retain_limit: retain loss of the base, what a dual objective stays below by default.
        """
        self.parameters, self.settings = dict(parameters), settings
        self.dual = settings.optimisers == "dual"
        decay = settings.weight_decay
        decays = {"forget": 0.0, "retain": decay} if self.dual else {"joint": decay}
        values = list(self.parameters.values())
        self.optimisers = {
            name: torch.optim.AdamW(values, weight_decay=amount) for name, amount in decays.items()
        }
        check_overlap(self.optimisers, declared=self.dual)
        self._limit = settings.options.get("dual_limit") or retain_limit
        self._warmup = warmup_steps(len(plan), settings.warmup_share)
        self._turns = {name: [self._steps(name, step) for step in plan] for name in self.optimisers}

    def groups(self, step: Step) -> list[tuple[str, list[str]]]:
        """Optimisers that act in a step, each with the terms whose gradient it takes."""
        terms = [name for name in ("forget", "retain") if getattr(step, name)]
        return [(name, [name]) for name in terms] if self.dual else [("joint", terms)]

    def rate(self, name: str, number: int) -> float:
        """Rate of an optimiser in step `number` of the run."""
        peak = self.settings.learning_rate
        if name == "retain" and self.settings.retain_learning_rate is not None:
            peak = self.settings.retain_learning_rate
        turns = self._turns[name]
        return learning_rate(sum(turns[:number]), sum(turns), peak, self.settings.warmup_share)

    def clear(self) -> None:
        """Forget gradients."""
        for optimiser in self.optimisers.values():
            optimiser.zero_grad()

    def clip(self, where: str) -> float:
        """Limit the norm of the gradient.

        Returns:
            The norm before.

        Raises:
            TrainingDiverged: it is not finite.
        """
        norm = nn.utils.clip_grad_norm_(list(self.parameters.values()), self.settings.clip)
        if not torch.isfinite(norm):
            raise TrainingDiverged(f"{where}: gradient norm {norm}. Lower training.learning_rate.")
        return norm.item()

    def apply(self, name: str, number: int) -> dict[str, float]:
        """Take one step of an optimiser in step `number` of the run.

        Returns:
            Its rate and, with two optimisers, the norm of the change, as columns of the history.
        """
        rate = self.rate(name, number)
        before = [value.detach().clone() for value in self.parameters.values()] if self.dual else []
        for group in self.optimisers[name].param_groups:
            group["lr"] = rate
        self.optimisers[name].step()
        if not self.dual:
            return {"lr": rate}
        pairs = zip(self.parameters.values(), before, strict=True)
        change = torch.stack([(now.detach() - then).norm() for now, then in pairs]).norm().item()
        return {"retain_lr" if name == "retain" else "lr": rate, f"{name}_update": change}

    def dual_weight(self, weight: float, retain_loss: float | None, number: int) -> float:
        """The retain weight of PDU after a step: max(0, weight + rate (L_R - limit)).

        It stands still while the rate warms up, and in steps without a retain term.
        """
        if retain_loss is None or number < self._warmup:
            return weight
        if self._limit is None:
            raise InputError("training.dual_limit: the base's retain loss is not known. Give a number.")
        rate: float = self.settings.options["dual_rate"]
        return max(0.0, weight + rate * (retain_loss - self._limit))

    def state(self) -> dict[str, Tensor]:
        """State of all optimisers as flat tensors, `{optimiser}/{parameter}.{quantity}`."""
        return {
            f"{title}/{name}.{quantity}": value.detach().clone()
            for title, optimiser in self.optimisers.items()
            for name, parameter in self.parameters.items()
            for quantity, value in optimiser.state[parameter].items()
        }

    def shapes(self, done: int) -> dict[str, torch.Size]:
        """Names and shapes that the state must have after `done` steps of the run."""
        return {
            f"{title}/{name}.{quantity}": torch.Size([]) if quantity == "step" else value.shape
            for title in self.optimisers
            if any(self._turns[title][:done])
            for name, value in self.parameters.items()
            for quantity in QUANTITIES
        }

    def reset(self) -> None:
        """Start from moments of 0 again, also for the correction of their bias; rates go on."""
        for optimiser in self.optimisers.values():
            for state in optimiser.state.values():
                for quantity in QUANTITIES:
                    state[quantity].zero_()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put a state back whose names and shapes were checked."""
        for title, optimiser in self.optimisers.items():
            for name, parameter in self.parameters.items():
                if f"{title}/{name}.step" not in tensors:
                    continue
                state: dict[str, Any] = {
                    quantity: tensors[f"{title}/{name}.{quantity}"] for quantity in QUANTITIES
                }
                for quantity in ("exp_avg", "exp_avg_sq"):
                    state[quantity] = state[quantity].to(parameter.device)
                optimiser.state[parameter] = state

    def _steps(self, name: str, step: Step) -> bool:
        return any(title == name for title, _ in self.groups(step))


def check_overlap(optimisers: Mapping[str, torch.optim.Optimizer], *, declared: bool) -> None:
    """Refuse optimisers that share a tensor unless the configuration says so.

    Undeclared, weight decay would act twice and the weights of the losses not at all.

    Raises:
        InputError: names the optimisers.
    """
    owners: dict[int, str] = {}
    for name, optimiser in optimisers.items():
        for value in {id(value) for group in optimiser.param_groups for value in group["params"]}:
            if value in owners and not declared:
                raise InputError(
                    f"training: optimisers {owners[value]!r} and {name!r} share a parameter. "
                    "Set training.optimisers: dual to mean it."
                )
            owners[value] = name
