"""What a training run is made of; every constant is here, none is hidden in the loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from mmie.errors import InputError
from mmie.objectives.catalogue import FORGET, RETAIN, Objective, describe, resolve_options

FORGET_OBJECTIVES = tuple(FORGET)
RETAIN_OBJECTIVES = tuple(RETAIN)
OPTIMISER_STEPS = 150
"""Steps of a run that says nothing else."""


@dataclass(frozen=True)
class Curriculum:
    """Draw forget rows by how well the base knew them; difficulty never changes within a run."""

    order: Literal["easy_first", "hard_first"] = "easy_first"
    """easy_first: weakly memorised rows (high NLL under the base) in the first third, all alike in the
    second, strongly memorised ones in the last."""
    temperature: float = 1.0
    """Of the softmax over standardised difficulties."""
    moments: Literal["carry", "reset"] = "carry"
    """What becomes of AdamW's moments where a stage begins: they go on, or start from 0 again."""


@dataclass(frozen=True)
class Reweighting:
    """Draw forget rows by how well they are still remembered."""

    every: int = 25
    """Optimiser steps between passes over the forget rows."""
    temperature: float = 1.0
    """Nats a token."""
    minimum: float = 0.1
    """Least weight before normalisation: nothing is ever left out."""
    maximum: float = 10.0
    """Largest weight before normalisation."""


@dataclass(frozen=True)
class EarlyStopping:
    """Stop on groups held out of training, by forgetting and retention together."""

    every: int = 10
    """Optimiser steps between measurements."""
    patience: int = 3
    """Measurements without improvement after which training stops."""
    improvement: float = 0.0
    """Least gain that counts as one."""
    held_out_share: float = 0.2
    """Share of the groups of FIT rows that is measured instead of trained on."""


@dataclass(frozen=True)
class TrainingSettings:
    """One run of the loop: J = forget_weight * L_F + retain_weight * L_R."""

    steps: int | None = OPTIMISER_STEPS
    """Optimiser steps, at least 2: the first step of an adapter moves only half of its factors.
    None: as many as `epochs` need."""
    epochs: int | None = None
    """Passes over the forget rows, in place of `steps`."""
    tail: Literal["flush", "carry", "drop"] | None = None
    """With `epochs`, the rows left over after an epoch's last full batch: a short batch (flush), into
    the next epoch (carry), or not at all (drop)."""
    learning_rate: float = 1e-3
    """Peak rate of AdamW."""
    forget_batch: int = 32
    """Forget items in a step."""
    retain_batch: int = 32
    """Retain items in a step."""
    micro_batch: int | None = None
    """Items in memory at once; gradients are accumulated with true counts. None: the whole batch."""
    objective: str = "npo"
    """Forget term."""
    retain_objective: str = "kl"
    """Retain term; kl is to the model without its intervention."""
    beta: float | None = None
    """Inverse temperature or strength of the forget term. None: its published value."""
    delta: float | None = None
    """Margin of SimNPO, nats a token."""
    bound: float | None = None
    """Bound of the bounded objective, nats a token. None: half the log of the vocabulary size."""
    preference_scale: Literal["one", "two_over_beta"] | None = None
    """Factor of a preference loss."""
    saturation_power: float | None = None
    """SatImp's power of p."""
    importance_power: float | None = None
    """SatImp's power of 1 - p."""
    dual_rate: float | None = None
    """PDU's step of the retain weight."""
    dual_limit: float | None = None
    """PDU's largest retain loss. None: that of the base, known for `nll` alone."""
    reference: Literal["adapter_off", "cached"] = "adapter_off"
    """Distributions of the base on retain answers: beside every batch, or once before the first step."""
    reference_top: int | None = None
    """Most likely tokens that a cached reference keeps, the others in one lump; kl only. None: all."""
    retain_layers: tuple[int, ...] | None = None
    """Blocks that the retain term `hidden` compares."""
    forget_weight: float = 1.0
    """gamma."""
    retain_weight: float = 1.0
    """alpha; for PDU its first value."""
    schedule: Literal["joint", "alternating"] = "joint"
    """Both terms in every step, or forget in even and retain in odd steps."""
    optimisers: Literal["one", "dual"] = "one"
    """One AdamW, or one a term with moments of its own; the same parameters either way."""
    retain_learning_rate: float | None = None
    """Peak rate of the retain term's own AdamW. None: `learning_rate`."""
    warmup_share: float = 0.1
    """Share of the steps in which the rate rises; afterwards it falls linearly to almost 0."""
    weight_decay: float = 0.0
    """Decoupled weight decay; with two optimisers in that of the retain term alone."""
    clip: float = 1.0
    """Largest gradient norm."""
    checkpoint_every: int = 25
    """Steps between resumable checkpoints."""
    language_weights: dict[str, float] | None = None
    """Sampling weight of each language in both sets; None: every row equally often."""
    curriculum: Curriculum | None = None
    """None: no order by difficulty."""
    reweighting: Reweighting | None = None
    """None: no weights by what is still remembered."""
    early_stopping: EarlyStopping | None = None
    """None: all steps are taken."""

    def __post_init__(self) -> None:
        for name, kind in _PARTS.items():
            if isinstance(value := getattr(self, name), Mapping):
                object.__setattr__(self, name, _read(kind, value, f"training.{name}"))
        if self.retain_layers is not None:
            object.__setattr__(self, "retain_layers", tuple(self.retain_layers))
        _check_ranges(self)
        _check_combination(self)

    @property
    def forget_term(self) -> Objective:
        """What the catalogue says of the forget term."""
        return describe(self.objective, FORGET, "training.objective")

    @property
    def retain_term(self) -> Objective:
        """What the catalogue says of the retain term."""
        return describe(self.retain_objective, RETAIN, "training.retain_objective")

    @property
    def options(self) -> dict[str, Any]:
        """Options of the two terms, defaults filled in."""
        given = {name: getattr(self, name) for name in _TERM_OPTIONS}
        names = (self.objective, self.retain_objective)
        return resolve_options(self.forget_term, self.retain_term, given, names)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> TrainingSettings:
        """Read the settings from a config block.

        Raises:
            InputError: an unknown key, a value out of range or a combination without meaning.
        """
        return _read(cls, options, "training")

    def as_options(self) -> dict[str, Any]:
        """The settings as plain JSON content, defaults of the objectives filled in."""
        plain = {**asdict(self), **self.options}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


_PARTS = {"curriculum": Curriculum, "reweighting": Reweighting, "early_stopping": EarlyStopping}
_TERM_OPTIONS = sorted({name for term in (*FORGET.values(), *RETAIN.values()) for name in term.options})


def _read(kind: Any, options: Mapping[str, Any], key: str) -> Any:
    known = {field.name for field in fields(kind)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise InputError(f"{key}.{unknown[0]}: unknown key. Known: {', '.join(sorted(known))}.")
    return kind(**options)


def _check_ranges(settings: TrainingSettings) -> None:
    """Refuse values outside their range; None is allowed where it has a meaning."""
    least: dict[str, tuple[str, float]] = {
        **{name: (">=", 1) for name in ("epochs", "forget_batch", "retain_batch", "micro_batch")},
        **{name: (">=", 0) for name in ("forget_weight", "retain_weight", "weight_decay", "delta")},
        **{name: (">=", 0) for name in ("saturation_power", "importance_power", "dual_limit")},
        **{name: (">", 0) for name in ("learning_rate", "retain_learning_rate", "beta", "bound", "clip")},
        "steps": (">=", 2),
        "reference_top": (">=", 1),
        "dual_rate": (">", 0),
        "checkpoint_every": (">=", 1),
        "warmup_share": (">=", 0),
        "curriculum.temperature": (">", 0),
        "reweighting.every": (">=", 1),
        "reweighting.temperature": (">", 0),
        "reweighting.minimum": (">", 0),
        "early_stopping.every": (">=", 2),
        "early_stopping.patience": (">=", 1),
        "early_stopping.improvement": (">=", 0),
        "early_stopping.held_out_share": (">", 0),
    }
    for name, (relation, bound) in least.items():
        value = _value(settings, name)
        if value is not None and not (value > bound or (relation == ">=" and value == bound)):
            raise InputError(
                f"training.{name} = {value!r}: must be {relation} {bound}. See docs/configuration.md."
            )
    for name, largest in (("warmup_share", 1.0), ("early_stopping.held_out_share", 0.9)):
        value = _value(settings, name)
        if value is not None and value > largest:
            raise InputError(f"training.{name} = {value!r}: must be <= {largest}. See docs/configuration.md.")
    for name, choices in _CHOICES.items():
        value = _value(settings, name)
        if value is not None and value not in choices:
            raise InputError(f"training.{name} = {value!r}: choose one of {', '.join(choices)}.")


_CHOICES = {
    "tail": ("flush", "carry", "drop"),
    "preference_scale": ("one", "two_over_beta"),
    "reference": ("adapter_off", "cached"),
    "schedule": ("joint", "alternating"),
    "optimisers": ("one", "dual"),
    "curriculum.order": ("easy_first", "hard_first"),
    "curriculum.moments": ("carry", "reset"),
}


def _value(settings: TrainingSettings, name: str) -> Any:
    part, _, key = name.rpartition(".")
    owner = getattr(settings, part) if part else settings
    return None if owner is None else getattr(owner, key)


def _check_combination(settings: TrainingSettings) -> None:
    """Refuse combinations in which something would be without effect or without meaning."""
    one, two = settings.forget_weight, settings.retain_weight
    options = settings.options
    reweighting = settings.reweighting
    problems = {
        "steps and epochs: give one of them and set the other to null": (settings.steps is None)
        == (settings.epochs is None),
        "tail: has no effect without epochs. Remove it": settings.tail is not None
        and settings.epochs is None,
        "retain_learning_rate: has no effect with one optimiser. Set optimisers: dual, or remove it": (
            settings.retain_learning_rate is not None and settings.optimisers == "one"
        ),
        "forget_weight and retain_weight: both 0, nothing would be trained. Raise one": one == two == 0,
        "objective gradient_ascent: a retain term makes it GradDiff. "
        "Set objective: graddiff, or retain_weight: 0": settings.objective == "gradient_ascent" and two > 0,
        "objective graddiff: needs a retain term. "
        "Raise retain_weight, or set objective: gradient_ascent": settings.objective == "graddiff"
        and two == 0,
        "objective pdu: needs a retain term of positive weight. Raise retain_weight": (
            settings.objective == "pdu" and two == 0
        ),
        "dual_limit: the base's own loss is known for retain_objective nll alone. Give a number": (
            settings.objective == "pdu" and settings.retain_objective != "nll" and not options["dual_limit"]
        ),
        "reference cached: no distribution of the base is needed here. Remove it": (
            settings.reference == "cached" and (settings.retain_term.reference != "logits" or two == 0)
        ),
        "reference_top: is for reference cached and retain_objective kl alone. Remove it": (
            settings.reference_top is not None
            and (settings.reference, settings.retain_objective) != ("cached", "kl")
        ),
        "retain_layers: retain_objective hidden needs the numbers of blocks. Give a list": (
            settings.retain_objective == "hidden" and not options["retain_layers"]
        ),
        "schedule alternating: needs both terms. Raise the weight that is 0, or set schedule: joint": (
            settings.schedule == "alternating" and 0 in (one, two)
        ),
        "optimisers dual: needs both terms. Raise the weight that is 0, or set optimisers: one": (
            settings.optimisers == "dual" and 0 in (one, two)
        ),
        "reweighting: maximum must not be below minimum": (
            reweighting is not None and reweighting.maximum < reweighting.minimum
        ),
    }
    for problem, found in problems.items():
        if found:
            raise InputError(f"training.{problem}.")
