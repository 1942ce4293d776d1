"""The configuration: every key once, with its type, its default and a sentence.

`make schema` writes `config/schema.yaml` and `docs/configuration.md` from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator, model_validator

from mmie.arm_options import Arm, Section, StreamArm, acts_by_hooks
from mmie.data.latin_forms import latin_forms
from mmie.errors import InputError
from mmie.layer_options import Layers
from mmie.model_options import Model
from mmie.stage_options import (
    Activations,
    Attacks,
    Data,
    Decoding,
    Depth,
    Evaluation,
    Gate,
    Identification,
    Judge,
    Language,
    Sae,
    Statistics,
    Sweep,
)
from mmie.sweep.trials import Trial, trials
from mmie.training.tracking import Tracking

DEFAULT_FILE = Path(__file__).resolve().parent.parent / "config" / "config.yaml"


class Configuration(Section):
    """Everything an experiment is made of."""

    experiment: str = Field(
        "atlas-hi", pattern=r"^[A-Za-z0-9._-]+$", description="Name of the folder under `results/`."
    )
    model: Model = Field(default_factory=Model, description="The model under study.")
    forget: list[str] = Field(
        ["hi"], min_length=1,
        description="Language to forget, in every script it is given in; one code or a list.",
    )  # fmt: skip
    retain: list[str] = Field(["en", "bn"], min_length=1, description="Languages that training protects.")
    neighbours: list[str] | None = Field(
        None,
        description="Languages that arms are not trained on; null for all others that have a corpus.",
    )
    negatives: list[str] | None = Field(
        None,
        description="Neighbours against which latents are picked, beside `retain`; they need FIT rows; "
        "null for all.",
    )
    seeds: list[int] = Field([1, 2, 3], min_length=1, description="Seeds of arms that draw or train.")
    data: Data = Field(default_factory=Data, description="The corpora and their checks.")
    activations: Activations = Field(default_factory=Activations, description="Reading the residual stream.")
    layers: Layers = Field(default_factory=Layers, description="Layer selection.")
    sae: Sae = Field(default_factory=Sae, description="Sparse autoencoders.")
    arms: dict[str, Arm] = Field(
        default_factory=lambda: _default("arms"), description="The arms, by name; null removes one."
    )
    language: Language = Field(default_factory=Language, description="Identifying the language of answers.")
    identification: Identification = Field(
        default_factory=Identification, description="How good the identifier must be."
    )
    decoding: Decoding = Field(default_factory=Decoding, description="Decoding, the same for every arm.")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="Which prompts are scored.")
    depth: Depth = Field(default_factory=Depth, description="Reading the arms from inside.")
    attacks: Attacks = Field(default_factory=Attacks, description="Attacks.")
    sweep: Sweep = Field(default_factory=Sweep, description="Choosing hyper-parameters on DEV.")
    judge: Judge | None = Field(None, description="A second opinion on answers; null: no calls, ever.")
    # Left out of every dump, and so of all that decides what is run again: it changes no result.
    tracking: Tracking | None = Field(
        None, exclude=True, description="Showing training runs to an experiment tracker; null for none."
    )
    statistics: Statistics = Field(default_factory=Statistics, description="Resampling and correction.")
    gates: dict[str, Gate] = Field(
        default_factory=lambda: _default("gates"),
        description="The gates, by name; null removes one.",
    )

    @field_validator("forget", "retain", "neighbours", "negatives", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _languages_fit(self) -> Configuration:
        for role in ("retain", "neighbours"):
            for language in getattr(self, role) or []:
                if language not in self.data.corpora:
                    raise ValueError(f"{role}: {language!r} has no corpus under data.corpora")
                if language in self.forget_languages:
                    raise ValueError(f"{role}: {language!r} is also a forget language")
        for language in self.negatives or []:
            if language not in self.neighbour_languages:
                raise ValueError(f"negatives: {language!r} is no neighbour. Name it in neighbours")
        for code in self.forget:
            if not any(_is_written_form(language, code) for language in self.data.corpora):
                raise ValueError(f"forget: {code!r} has no corpus under data.corpora")
        if "oracle_reference" in self.arms:
            raise ValueError("arms: `oracle_reference` is reserved for the reference oracle")
        return self

    @model_validator(mode="after")
    def _scripts_are_known(self) -> Configuration:
        # Fails for a language whose script is not known.
        _ = self.scored_languages
        return self

    @model_validator(mode="after")
    def _parts_are_arms(self) -> Configuration:
        for name, arm in self.arms.items():
            for place, part in enumerate(getattr(arm, "parts", [])):
                if part not in self.arms or self.arms[part].kind == "combined":
                    raise ValueError(
                        f"arms.{name}.parts: {part!r} is no other arm that is not combined itself"
                    )
                if place and not acts_by_hooks(self.arms[part]):
                    raise ValueError(
                        f"arms.{name}.parts: {part!r} acts on weights or has adapters; name it first"
                    )
        return self

    @model_validator(mode="after")
    def _layers_are_read(self) -> Configuration:
        read = self.activations.layers
        if read is not None and len(read) < self.layers.top:
            raise ValueError(f"activations.layers: {read} are fewer than layers.top {self.layers.top}")
        for name, arm in self.arms.items():
            self._check_stored(f"arms.{name}", arm)
        return self

    def _check_stored(self, place: str, arm: Any) -> None:
        """Raise a ValueError where an arm is fitted on activations of blocks that are not read."""
        read = self.activations.layers
        wanted = arm.layers if isinstance(arm, StreamArm) else "selected"
        if read is None or (isinstance(wanted, str) and wanted != "all"):
            return
        if wanted == "all" or not set(wanted) <= set(read):
            remedy = "null reads all" if wanted == "all" else "Add blocks there"
            raise ValueError(f"{place}.layers: {wanted!r} is not in activations.layers {read}. {remedy}")

    @model_validator(mode="after")
    def _sweep_is_possible(self) -> Configuration:
        for arm in self.sweep.arms:
            if arm not in self.arms:
                raise ValueError(f"sweep.arms: there is no arm {arm!r}")
            for trial in self.trials(arm):
                try:
                    self._check_stored(f"sweep.arms.{arm}", TypeAdapter(Arm).validate_python(trial.options))
                except ValidationError as error:
                    problem = error.errors()[0]
                    key = ".".join(map(str, problem["loc"][1:]))
                    raise ValueError(
                        f"sweep.arms.{arm}: {key}: {problem['msg']} in {trial.changes}"
                    ) from None
        return self

    def trials(self, arm: str) -> list[Trial]:
        """Configurations that a sweep tries of an arm."""
        options = self.sweep.arms[arm]
        return trials(
            arm,
            self.arms[arm].model_dump(mode="json"),
            options.grid,
            draws=options.draws,
            seed=self.sweep.seed,
        )

    @property
    def forget_languages(self) -> list[str]:
        """Every configured written form of the forget languages."""
        return [
            language
            for language in self.data.corpora
            if any(_is_written_form(language, code) for code in self.forget)
        ]

    @property
    def neighbour_languages(self) -> list[str]:
        """Languages that are measured and not trained on."""
        if self.neighbours is not None:
            return list(self.neighbours)
        taken = {*self.forget_languages, *self.retain}
        return [language for language in self.data.corpora if language not in taken]

    @property
    def negative_languages(self) -> list[str]:
        """Neighbours against which latents are picked, beside `retain`."""
        return self.neighbour_languages if self.negatives is None else list(self.negatives)

    @property
    def languages(self) -> list[str]:
        """All languages of the experiment: forget, retain, neighbours."""
        return [*self.forget_languages, *self.retain, *self.neighbour_languages]

    @property
    def scored_languages(self) -> dict[str, bool]:
        """Languages that layers are scored on, each with whether its rows are romanised first."""
        languages = [*self.forget_languages, *self.retain]
        return latin_forms(languages) if self.layers.script_blind else dict.fromkeys(languages, False)

    @property
    def roles(self) -> dict[str, list[str]]:
        """Language sets that gates name."""
        native = [language for language in self.forget_languages if "_" not in language]
        return {
            "forget": self.forget_languages,
            "forget_native": native,
            "forget_other_scripts": [code for code in self.forget_languages if code not in native],
            "retain": list(self.retain),
            "neighbours": self.neighbour_languages,
            "kept": [*self.retain, *self.neighbour_languages],
        }


def read_configuration(raw: Mapping[str, Any], source: str = "config") -> Configuration:
    """Check a configuration and fill in its defaults.

    Args:
        raw: the merged YAML content; an arm, gate or corpus set to null is removed.
        source: what errors call the file.

    Raises:
        InputError: one line a problem: file, key, value, what is allowed, the nearest known key.
    """
    content = {key: value for key, value in raw.items() if value is not None or key == "neighbours"}
    for key in ("arms", "gates"):
        if isinstance(content.get(key), Mapping):
            content[key] = _without_nulls(content[key])
    if isinstance(content.get("data"), Mapping) and isinstance(content["data"].get("corpora"), Mapping):
        content["data"] = {**content["data"], "corpora": _without_nulls(content["data"]["corpora"])}
    try:
        return Configuration.model_validate(content)
    except ValidationError as error:
        lines = [f"{source}: {_describe(problem)}" for problem in error.errors()]
        raise InputError("\n".join(lines)) from None


def _describe(problem: Mapping[str, Any]) -> str:
    known = _known_keys()
    path = [str(part) for part in problem["loc"]]
    key = ".".join(path) or "(top level)"
    if problem["type"] == "extra_forbidden":
        close = get_close_matches(path[-1], known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"{key}: unknown key.{hint} docs/configuration.md lists all keys."
    value = problem.get("input")
    shown = "" if isinstance(value, Mapping) or value is None else f" (got {value!r})"
    message = problem["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{key}: {message}{shown}."


def _known_keys() -> list[str]:
    return sorted({name for model in sections(Configuration) for name in model.model_fields})


def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A configuration model and every model inside it, depth first."""
    yield model
    for field in model.model_fields.values():
        for part in _models_in(field.annotation):
            yield from sections(part)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def _without_nulls(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in entries.items() if entry is not None}


def _is_written_form(language: str, code: str) -> bool:
    return language == code or language.split("_")[0] == code


def _default(key: str) -> dict[str, Any]:
    section: dict[str, Any] = yaml.safe_load(DEFAULT_FILE.read_text(encoding="utf-8"))[key]
    adapter: Any = {"arms": Arm, "gates": Gate}[key]
    return {name: TypeAdapter(adapter).validate_python(entry) for name, entry in section.items()}
