"""Another model in the place of the base: the oracle that never saw what is to be forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from mmie.errors import InputError
from mmie.interventions.interface import (
    FitData,
    Fitted,
    Intervention,
    base_weights_hash,
    check_shapes,
)
from mmie.interventions.weights import exchanged

# What may differ between two models of one architecture.
_INCIDENTAL = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")


@dataclass
class WeightReplacement(Intervention):
    """All weights of another model directory of identical architecture.

    The saved arm names the directory and the hash of its weights; it copies nothing.
    """

    kind: ClassVar[str] = "oracle"

    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        if data.oracle is None:
            raise InputError("arm of kind 'oracle': no model directory was given. Set model.oracle.")
        other = self._load(data.oracle, model)
        return Fitted({"model": str(data.oracle), "model_hash": base_weights_hash(other)})

    @contextmanager
    def _attach(self, model: nn.Module) -> Iterator[nn.Module]:
        facts = self._require_fit().facts
        other = self._load(Path(facts["model"]), model)
        if base_weights_hash(other) != facts["model_hash"]:
            raise InputError(f"{facts['model']}: its weights changed since the fit. Fit the arm again.")
        tensors: dict[str, Tensor] = other.state_dict()
        with exchanged(model, tensors):
            yield model

    def _load(self, directory: Path, model: nn.Module) -> nn.Module:
        """Load the other model and check that it is one of the same architecture."""
        from mmie.models.loading import load_model

        dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        other, _ = load_model(directory, dtype=dtype)
        theirs, ours = _architecture(other), _architecture(model)
        differing = sorted(key for key in {*theirs, *ours} if theirs.get(key) != ours.get(key))
        if differing:
            raise InputError(
                f"{directory}/config.json: {', '.join(differing)} differ from the base model. "
                "An oracle must have the base's architecture."
            )
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        check_shapes(other.state_dict(), shapes, str(directory))
        return other


def _architecture(model: nn.Module) -> dict[str, Any]:
    content: dict[str, Any] = model.config.to_dict()  # type: ignore[union-attr, operator]
    return {key: value for key, value in content.items() if key not in _INCIDENTAL}
