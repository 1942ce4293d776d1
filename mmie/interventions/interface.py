"""The one interface for everything that can be done to a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from mmie.errors import InputError
from mmie.io import read_json, read_safetensors, write_json, write_safetensors
from mmie.models.hooks import hook_count
from mmie.training.fingerprint import probe_hash, weights_hash

if TYPE_CHECKING:
    import pandas as pd

    from mmie.data.triples import Triple

DESCRIPTION = "intervention.json"


@dataclass(frozen=True)
class FitData:
    """What an intervention may read when it is fitted; each kind takes what it needs."""

    tokenizer: Any = None
    forget: pd.DataFrame | None = None
    """FIT rows of the forget languages (row schema of the data stage)."""
    retain: pd.DataFrame | None = None
    """FIT rows of the retain languages."""
    reference: pd.DataFrame | None = None
    """Stored answer log-likelihoods of the base: example_id, language, nll_sum, n_tokens."""
    layers: tuple[int, ...] = ()
    """Layers that the layer stage selected."""
    layer_scores: Mapping[int, float] | None = None
    """Combined score of every layer, higher is better; None where the method gave none."""
    layer_candidates: tuple[int, ...] = ()
    """Layers that the layer stage could have selected."""
    layer_gap: int | None = None
    """Smallest distance of layers that it selects together; None where there was no layer stage."""
    activations: Path | None = None
    """Directory of the activation stage, with one folder a language."""
    forget_languages: tuple[str, ...] = ()
    """Every written form of the forget languages."""
    retain_languages: tuple[str, ...] = ()
    """Languages that fitting protects."""
    oracle: Path | None = None
    """Directory of the model that replaces the base."""
    sae: Path | None = None
    """Directory of the SAE stage, with one folder `layer{L}` a layer."""
    latents: Mapping[int, pd.DataFrame] | None = None
    """By layer, one row a latent: latent, score, rate_forget, rate_retain, decoder_norm."""
    residual_norms: Mapping[int, float] | None = None
    """Median residual norm of each layer on retain tokens of the base (n_l)."""
    triples: Sequence[Triple] = ()
    """Triples that attack FIT facts by FIT templates."""
    parts: Mapping[str, Path] = field(default_factory=dict)
    """Directories of fitted arms by name, for an arm that combines them."""
    checkpoints: Path | None = None
    """Where resumable training state goes; None for none."""
    observe: Callable[[Mapping[str, Any]], None] | None = None
    """Is shown every row of the training history; None for nobody."""


@dataclass
class Fitted:
    """Result of a fit: what is saved beside the options."""

    facts: dict[str, Any] = field(default_factory=dict)
    """JSON content."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """On the CPU."""


@dataclass
class Intervention(ABC):
    """Something done to a model that can be taken back.

    A kind is a dataclass: its fields are its options in the config. It implements `_fit` (learn, or
    decide nothing) and `_attach` (act, and always undo). The base class saves, loads and checks.
    """

    kind: ClassVar[str]
    tensor_file: ClassVar[str] = "intervention.safetensors"
    bound_to_base: ClassVar[bool] = True
    """Whether the fit is meaningless on other weights; such a use is then refused."""

    def __post_init__(self) -> None:
        self.fitted: Fitted | None = None
        self.history: pd.DataFrame | None = None
        """One row a training step, for kinds that train."""

    @property
    def seeded(self) -> bool:
        """Whether another seed gives another arm; if not, it runs once and has no seed interval."""
        return False

    def fit(self, model: nn.Module, data: FitData, *, seed: int) -> None:
        """Learn what is to be done. The model is the same afterwards, bit for bit."""
        base_hash = base_weights_hash(model)
        self.fitted = self._fit(model, data, seed)
        self.fitted.facts |= {"base_hash": base_hash, "seed": seed if self.seeded else None}
        if base_weights_hash(model) != base_hash:
            raise RuntimeError(f"fitting {self.kind!r} changed the base model.")

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[nn.Module]:
        """Yield the model with the intervention in force; take it back on every way out.

        Raises:
            InputError: not fitted, or fitted to another base model.
        """
        fitted = self._require_fit()
        if self.bound_to_base and base_weights_hash(model) != fitted.facts["base_hash"]:
            raise InputError(
                f"intervention {self.kind!r} was fitted to another base model (weights differ). "
                "Fit it again on this one."
            )
        with self._attach(model) as changed:
            yield changed

    def save(self, directory: str | Path) -> None:
        """Write `intervention.json` and, where there are tensors, `tensor_file`."""
        fitted = self._require_fit()
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        if fitted.tensors:
            write_safetensors(directory / self.tensor_file, fitted.tensors)
        write_json(
            directory / DESCRIPTION,
            {"kind": self.kind, "options": self.options(), "fitted": fitted.facts},
        )

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: another kind, or a tensor that is missing, unexpected or of another shape.
        """
        directory = Path(directory)
        content = read_json(directory / DESCRIPTION)
        if content.get("kind") != cls.kind:
            raise InputError(
                f"{directory / DESCRIPTION}: kind {content.get('kind')!r}, expected {cls.kind!r}."
            )
        loaded = cls.from_options(content["options"])
        facts = content["fitted"]
        expected = loaded._shapes(facts)
        tensors = read_safetensors(directory / cls.tensor_file) if expected else {}
        check_shapes(tensors, expected, str(directory / cls.tensor_file))
        loaded.fitted = Fitted(facts, tensors)
        return loaded

    def at_strength(self, strength: float) -> Self:
        """The fitted arm at another strength, for dose-response curves; the fit is shared.

        Raises:
            InputError: the kind has no strength.
        """
        if "strength" not in {option.name for option in fields(self)}:
            raise InputError(f"arm of kind {self.kind!r} has no strength, so it has no dose-response curve.")
        other = copy(self)
        other.strength = strength  # type: ignore[attr-defined]
        return other

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Build from a config block without its `kind`.

        Raises:
            InputError: an unknown option.
        """
        known = [option.name for option in fields(cls)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise InputError(
                f"arm of kind {cls.kind!r}: unknown option {unknown[0]!r}. Known: {', '.join(known)}."
            )
        return cls(**options)

    def options(self) -> dict[str, Any]:
        """The options as plain JSON content."""
        return {option.name: getattr(self, option.name) for option in fields(self)}

    @abstractmethod
    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        """Learn; leave the model as it was."""

    @abstractmethod
    def _attach(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        """Act on the model inside a `with` statement."""

    def _shapes(self, facts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the tensors that a saved fit must hold, no more and no less."""
        return {}

    def _require_fit(self) -> Fitted:
        if self.fitted is None:
            raise InputError(f"intervention {self.kind!r} is not fitted. Call fit or load first.")
        return self.fitted


def check_shapes(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Raise an InputError unless tensors have exactly the expected names and shapes."""
    missing = sorted(set(expected) - set(tensors))
    unexpected = sorted(set(tensors) - set(expected))
    wrong = sorted(
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(expected[name])}"
        for name in set(tensors) & set(expected)
        if tuple(tensors[name].shape) != tuple(expected[name])
    )
    problems = [
        f"{what}: {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("shape", wrong))
        if names
    ]
    if problems:
        raise InputError(f"{source}: {'; '.join(problems)}. Fit the arm again.")


def base_weights_hash(model: nn.Module) -> str:
    """Hash of all parameters and persistent buffers of an unwrapped model."""
    return weights_hash(model.state_dict())


@contextmanager
def assert_restored(model: nn.Module, input_ids: Tensor | None = None) -> Iterator[None]:
    """Check after the block that the base model is what it was before, bit for bit.

    Args:
        model: the base model.
        input_ids: probe batch [batch, time]; None for a fixed one.

    Raises:
        RuntimeError: probe logits differ, or hooks or adapter modules stayed behind.
    """
    probe = default_probe(model) if input_ids is None else input_ids
    before = probe_hash(model, probe)
    yield
    left = hook_count(model)
    adapters = [name for name, _ in model.named_modules() if "lora_" in name]
    if left or adapters or hasattr(model, "peft_config"):
        raise RuntimeError(f"an intervention left {left} hooks and adapters {adapters[:4]} behind.")
    if probe_hash(model, probe) != before:
        raise RuntimeError("an intervention changed the base model: its probe logits differ.")


def default_probe(model: nn.Module) -> Tensor:
    """Two fixed sequences of eight token ids that every vocabulary has."""
    vocabulary = int(model.config.vocab_size)  # type: ignore[union-attr, arg-type]
    return (torch.arange(16).reshape(2, 8) * 7 + 3) % vocabulary
