"""Several fitted arms in force at once: the cell `both` of a factorial design."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from mmie.arm_options import acts_by_hooks
from mmie.errors import InputError
from mmie.interventions.interface import FitData, Fitted, Intervention, base_weights_hash


@dataclass
class Combined(Intervention):
    """Other arms, each fitted on the base alone, applied together.

    Nothing is fitted anew: the parts are the saved arms that are also evaluated alone, so the four cells
    base, first part, second part and both differ in what is in force and in nothing else. A gate is thus
    not fitted to what an adapter made of the model.

    Parts are attached in their order, the last outermost: of two edits of one block the later one gets
    what the earlier one returns. At most one part may change weights or carry adapters, and it comes
    first; the others are hooks.
    """

    kind: ClassVar[str] = "combined"
    tensor_file: ClassVar[str] = "combined.safetensors"

    parts: list[str] = field(default_factory=list)
    """Names of other arms, first to be attached first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.parts) < 2 or len(set(self.parts)) < len(self.parts):
            raise InputError(f"arm of kind 'combined': parts {self.parts}. Name two or more different arms.")

    @property
    def seeded(self) -> bool:
        """Whether any part is; before the fit nothing is known of them."""
        return self.fitted is None or any(part["seeded"] for part in self.fitted.facts["parts"].values())

    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        from mmie.interventions.registry import load_intervention

        missing = sorted(set(self.parts) - set(data.parts))
        if missing:
            raise InputError(f"arm of kind 'combined': part {missing[0]!r} is not fitted. Fit it first.")
        loaded = {name: load_intervention(data.parts[name]) for name in self.parts}
        check_order({name: attaches(part) for name, part in loaded.items()})
        base_hash = base_weights_hash(model)
        facts: dict[str, Any] = {}
        tensors: dict[str, Tensor] = {}
        for name, part in loaded.items():
            fitted = part._require_fit()
            if part.bound_to_base and fitted.facts["base_hash"] != base_hash:
                raise InputError(
                    f"arm of kind 'combined': part {name!r} was fitted to another base model. Fit it again."
                )
            facts[name] = {
                "kind": part.kind,
                "options": part.options(),
                "seeded": part.seeded,
                "fitted": fitted.facts,
            }
            tensors |= {f"{name}/{key}": tensor for key, tensor in fitted.tensors.items()}
        return Fitted({"parts": facts}, tensors)

    @contextmanager
    def _attach(self, model: nn.Module) -> Iterator[nn.Module]:
        changed = model
        with ExitStack() as stack:
            for part in self._loaded():
                # Not `applied`: that compares the base, and the base now has the earlier parts in it.
                changed = stack.enter_context(part._attach(changed))
            yield changed

    def _shapes(self, facts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        return {
            f"{name}/{key}": shape
            for name, saved in facts["parts"].items()
            for key, shape in _unfitted(saved)._shapes(saved["fitted"]).items()
        }

    def _loaded(self) -> list[Intervention]:
        """The fitted parts, in the order in which they are attached."""
        fitted, parts = self._require_fit(), []
        for name in self.parts:
            saved = fitted.facts["parts"][name]
            part, prefix = _unfitted(saved), f"{name}/"
            own = {
                key.removeprefix(prefix): tensor
                for key, tensor in fitted.tensors.items()
                if key.startswith(prefix)
            }
            part.fitted = Fitted(dict(saved["fitted"]), own)
            parts.append(part)
        return parts


def attaches(part: Intervention) -> str:
    """How a part acts: by "hooks", on the "model" (weights, adapters), or as a "combined" arm."""
    if part.kind == Combined.kind:
        return "combined"
    return "hooks" if acts_by_hooks(part) else "model"


def check_order(ways: Mapping[str, str]) -> None:
    """Refuse parts that cannot be attached in this order.

    Args:
        ways: what `attaches` says of each part, by name, in order.

    Raises:
        InputError: a part is combined itself, or one that is not the first changes weights.
    """
    for place, (name, way) in enumerate(ways.items()):
        if way == "combined":
            raise InputError(f"arm of kind 'combined': {name!r} is combined itself. Name its parts instead.")
        if way == "model" and place:
            raise InputError(
                f"arm of kind 'combined': {name!r} changes weights or carries adapters, so it must come "
                "first, and only one part may. Reorder or drop it."
            )


def _unfitted(saved: Mapping[str, Any]) -> Intervention:
    from mmie.interventions.registry import build

    return build({"kind": saved["kind"], **saved["options"]})
