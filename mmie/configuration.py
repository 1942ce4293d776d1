"""The configuration: every key once, with its type, its default and a sentence.

`make schema` writes `config/schema.yaml` and `docs/configuration.md` from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from mmie.arm_options import Arm, Positive, Section, Share
from mmie.errors import InputError

DEFAULT_FILE = Path(__file__).resolve().parent.parent / "config" / "config.yaml"


class OracleModel(Section):
    """Where models come from that never saw the forget languages."""

    corpus: str = Field(
        "data/atlas",
        description="Folder of the JSONL files that the base model was trained on; an oracle is trained on "
        "the same files without the forget languages, whatever languages the experiment measures.",
    )
    shipped: str | None = Field(
        "data/nano-oracle",
        description="Folder of ready oracles; one is used when its recipe matches the config, else trained.",
    )
    reference_seed: int = Field(1, description="Seed of the oracle that scores are normalised by.")
    arm_seed: int = Field(2, description="Seed of the oracle that runs as the arm `oracle`.")

    @model_validator(mode="after")
    def _two_seeds(self) -> OracleModel:
        if self.reference_seed == self.arm_seed:
            raise ValueError(
                "reference_seed and arm_seed must differ: an oracle measured against itself always agrees"
            )
        return self


class Model(Section):
    """The model under study."""

    base: str = Field(
        "data/nano",
        description="Directory of a safetensors model, or its name on the Hugging Face Hub.",
    )
    revision: str | None = Field(None, description="Hub revision (commit or tag); null for local models.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Type of the weights in memory.")
    device: str = Field(
        "cpu", description="`cpu`, `cuda`, `cuda:1` or `auto`; anything but `cpu` asks for `gpu=1`."
    )
    threads: Positive = Field(1, description="CPU threads of a job; results are reproducible per value.")
    max_length: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="Tokens of a prompt and its answer, or its generation, in every stage; null for all that "
        "the model has positions for.",
    )
    truncated_limit: Share = Field(
        0.0, description="Largest share of a set's texts that `max_length` may cut; more is an error."
    )
    oracle: OracleModel | None = Field(
        default_factory=OracleModel, description="How to get an oracle; null where none can be trained."
    )


class Data(Section):
    """The corpora and how their rows are checked."""

    corpora: dict[str, str | list[str]] = Field(
        default_factory=dict,
        description="JSONL file or files of each language, by code (`hi`) or code and script (`hi_Latn`).",
    )
    row_schema: Literal[
        "auto", "text", "prompt_answer", "instruction", "question", "completion", "messages"
    ] = Field("auto", description="Shape of a row; `auto` takes the shape of a file's first row for all.")
    encoding: str = Field("utf-8", description="Encoding of the files.")
    ignored_fields: list[str] = Field([], description="Row fields that MMIE shall leave unread.")
    repair_residue: bool = Field(
        False,
        description="Remove a stray leading quote and a trailing quote and comma around texts.",
    )
    residue_limit: Share = Field(
        0.01, description="Largest share of rows with an artefact: wrapping, quotes, markup, broken text."
    )
    script_share_minimum: Share = Field(0.5, description="Least share of letters in the right script.")
    romanised_minimum: Share = Field(
        0.5, description="Least share of a romanised set that reads as the romanised language."
    )
    composition_minimum: Share = Field(
        0.1, description="Least share of mixed and adversarial prompts with forget-language script."
    )
    declared_overlaps: list[str] = Field(
        [], description="Pairs of sets that may share texts, as `forget/fit~retain/fit`."
    )
    max_drop_share: Share = Field(0.1, description="Largest share of rows that validation may reject.")
    near_duplicate_limit: Share = Field(1.0, description="Largest share of near-duplicate rows in a file.")
    minimum_rows: Positive = Field(20, description="Fewest rows that a language must keep.")
    max_rows: Positive | None = Field(None, description="Rows to sample from a file by seed; null for all.")
    prompt_share: Share = Field(0.5, description="Share of a plain text's words that become its prompt.")
    fit_share: Share = Field(0.5, description="Share of the groups (clusters) for fitting.")
    dev_share: Share = Field(0.2, description="Share of the groups for choosing; the rest is TEST.")
    seed: int = Field(0, description="Seed of the splits and of sampling.")


class Activations(Section):
    """How the residual stream is read."""

    token_budget: Positive = Field(4096, description="Tokens, pads included, of one forward pass.")
    sink_factor: float = Field(10.0, gt=1, description="Rows above this many median norms are set aside.")


class Layers(Section):
    """How layers are chosen."""

    method: Literal["specific", "shared", "middle"] = Field(
        "specific",
        description="`specific`: layers that tell languages apart; `shared`: layers that join them.",
    )
    top: Positive = Field(1, description="How many layers to choose.")
    permutations: Positive = Field(200, description="Pairings drawn for the null of each similarity.")
    half_samples: Positive = Field(50, description="Half-samples of items behind the standard errors.")


class Sae(Section):
    """The sparse autoencoder of each selected layer."""

    expansion: Positive = Field(8, description="Latents per residual dimension.")
    k: Positive = Field(16, description="Latents that may fire for a token.")
    epochs: Positive = Field(8, description="Passes over the stored activations.")
    batch_size: Positive = Field(512, description="Tokens in a training batch.")
    learning_rate: float = Field(2e-3, gt=0, description="Peak learning rate of Adam.")
    minimum_tokens_per_latent: float = Field(
        50.0,
        ge=0,
        description="Fewer activation rows per latent, counted over all epochs, is an error.",
    )
    seed: int = Field(0, description="Seed of initialisation and order.")


class Decoding(Section):
    """One decoding for every arm."""

    max_new_tokens: Positive = Field(24, description="Length limit of a generation, in tokens.")
    batch_size: Positive = Field(64, description="Prompts decoded together.")


class Evaluation(Section):
    """Which prompts every arm answers."""

    items: Positive = Field(
        200, description="Largest number of prompts of each cell (split or kind) and language."
    )


class Relearn(Section):
    """The relearning attack: fine-tuning on forget rows that the score does not read."""

    steps: list[int] = Field([0, 1, 5, 10, 25, 50], description="Steps after which the model is scored.")
    learning_rate: float = Field(1e-4, gt=0, description="Learning rate of AdamW.")
    batch_size: Positive = Field(32, description="Forget rows in a step.")
    items: Positive = Field(120, description="TEST forget prompts that are scored, per language.")


class Attacks(Section):
    """Attacks; each runs against every arm, the base and the oracle."""

    relearn: Relearn | None = Field(default_factory=Relearn, description="Relearning; null leaves it out.")


class Gate(Section):
    """One condition of the verdict."""

    question: str = Field(description="What the gate asks, in words.")
    metric: str = Field(description="Score it reads, a column of the evaluation files.")
    languages: Literal["forget_native", "forget_other_scripts", "forget", "retain", "neighbours", "kept"]
    cell: Literal["test", "test_new_wording", "mixed", "adversarial", "relearn"] = Field(
        "test", description="Which prompts it reads; `relearn` reads the attack."
    )
    statistic: Literal["transfer", "ratio", "difference", "worst_seed_difference"] = Field(
        description="`transfer` is 0 for the base and 1 for the oracle; `difference` is arm minus base."
    )
    direction: Literal["at_least", "at_most"] = Field(description="Which side of the threshold passes.")
    threshold: float = Field(description="Effect to reach, or the margin of harm that is tolerated.")
    test: Literal["sign_flip", "non_inferiority"]
    family: Literal["efficacy", "preservation", "robustness", "membership"] = Field(
        description="Tests of one family are corrected together."
    )
    stop_reason: Literal[
        "below_threshold", "utility_loss", "neighbour_loss", "collapsed", "language_confusion",
        "membership", "not_robust",
    ] = Field(description="Reason of a STOP when it fails.")  # fmt: skip
    required: bool = Field(True, description="Whether PROCEED needs it.")
    not_applicable: str | None = Field(None, description="Why it is left out; printed in the verdict.")


class Statistics(Section):
    """Resampling and correction."""

    resamples: Annotated[int, Field(ge=1000)] = Field(2000, description="Bootstrap resamples.")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="Level of intervals, tests and FDR.")
    weight: Literal["cluster", "item"] = Field("cluster", description="What weighs equally in a mean.")
    calibrate_margins: bool = Field(
        True,
        description="Widen a preservation margin to the oracle's own difference on DEV, if larger.",
    )
    headroom: float = Field(
        1.0, ge=1, description="Factor on a margin that was widened; room for retraining noise."
    )


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
        description="Languages that are only measured; null for all others that have a corpus.",
    )
    seeds: list[int] = Field([1, 2, 3], min_length=1, description="Seeds of arms that draw or train.")
    data: Data = Field(default_factory=Data, description="The corpora and their checks.")
    activations: Activations = Field(default_factory=Activations, description="Reading the residual stream.")
    layers: Layers = Field(default_factory=Layers, description="Layer selection.")
    sae: Sae = Field(default_factory=Sae, description="Sparse autoencoders.")
    arms: dict[str, Arm] = Field(
        default_factory=lambda: _default("arms"), description="The arms, by name; null removes one."
    )
    decoding: Decoding = Field(default_factory=Decoding, description="Decoding, the same for every arm.")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="Which prompts are scored.")
    attacks: Attacks = Field(default_factory=Attacks, description="Attacks.")
    statistics: Statistics = Field(default_factory=Statistics, description="Resampling and correction.")
    gates: dict[str, Gate] = Field(
        default_factory=lambda: _default("gates"),
        description="The gates, by name; null removes one.",
    )

    @field_validator("forget", "retain", "neighbours", mode="before")
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
        for code in self.forget:
            if not any(_is_written_form(language, code) for language in self.data.corpora):
                raise ValueError(f"forget: {code!r} has no corpus under data.corpora")
        if "oracle_reference" in self.arms:
            raise ValueError("arms: `oracle_reference` is reserved for the reference oracle")
        return self

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
    def languages(self) -> list[str]:
        """All languages of the experiment: forget, retain, neighbours."""
        return [*self.forget_languages, *self.retain, *self.neighbour_languages]

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
    return f"{key}: {problem['msg'].removeprefix('Value error, ')}{shown}."


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
    from pydantic import TypeAdapter

    return {name: TypeAdapter(adapter).validate_python(entry) for name, entry in section.items()}
