"""The config blocks of arms: one section a kind, told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmie.errors import InputError
from mmie.training.settings import TrainingSettings

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
LayerChoice = Literal["all", "selected", "random", "worst", "middle"] | list[int]
"""Blocks: all, those of the layer stage, a control of as many blocks, or numbers."""


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Curriculum(Section):
    """Forget rows drawn by how well the base knew them, in three stages of a third each."""

    order: Literal["easy_first", "hard_first"] = Field(
        "easy_first", description="`easy_first`: weakly memorised rows first, strongly memorised ones last."
    )
    temperature: float = Field(1.0, gt=0, description="Of the softmax over standardised difficulties.")


class Reweighting(Section):
    """Forget rows drawn by how well they are still remembered; multiplies a curriculum."""

    every: Positive = Field(25, description="Steps between passes over all forget rows.")
    temperature: float = Field(1.0, gt=0, description="Nats a token.")
    minimum: float = Field(0.1, gt=0, description="Least weight before normalisation.")
    maximum: float = Field(10.0, gt=0, description="Largest weight before normalisation.")


class EarlyStopping(Section):
    """Stop, and keep the best step, by rows of groups that are held out of training."""

    every: int = Field(10, ge=2, description="Steps between measurements.")
    patience: Positive = Field(3, description="Measurements without improvement before stopping.")
    improvement: float = Field(0.0, ge=0, description="Least gain that counts as one.")
    held_out_share: float = Field(0.2, gt=0, le=0.9, description="Share of the FIT groups to hold out.")


class Training(Section):
    """One training run of an arm: a forget objective and a retain objective (docs/objectives.md)."""

    steps: int | None = Field(150, ge=2, description="Optimiser steps; null: as many as `epochs` need.")
    epochs: Positive | None = Field(None, description="Passes over the forget rows, in place of `steps`.")
    tail: Literal["flush", "carry", "drop"] | None = Field(
        None,
        description="With `epochs`, rows left after the last full batch of an epoch: a short batch "
        "(`flush`, also for null), into the next epoch, or left out.",
    )
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of AdamW.")
    forget_batch: Positive = Field(32, description="Forget items in a step.")
    retain_batch: Positive = Field(32, description="Retain items in a step.")
    micro_batch: Positive | None = Field(
        None, description="Items in memory at once, gradients add up; null: the whole batch."
    )
    objective: str = Field("npo", description="Forget objective.")
    retain_objective: str = Field("kl", description="Retain objective: `kl`, `nll`, `jsd` or `hidden`.")
    beta: float | None = Field(
        None,
        gt=0,
        description="Inverse temperature (NPO, SimNPO, preference), power (WGA) or strength (UNDIAL); "
        "null: the objective's default.",
    )
    delta: float | None = Field(None, ge=0, description="SimNPO: margin, nats a token; null: 0.")
    bound: float | None = Field(
        None, gt=0, description="Bounded ascent: nats a token; null: half the log of the vocabulary size."
    )
    preference_scale: Literal["one", "two_over_beta"] | None = Field(
        None, description="IDK-DPO, AltPO: factor of the loss; null: `one`, standard DPO."
    )
    saturation_power: float | None = Field(None, ge=0, description="SatImp: power of p; null: 5.")
    importance_power: float | None = Field(None, ge=0, description="SatImp: power of 1 - p; null: 1.")
    dual_rate: float | None = Field(None, gt=0, description="PDU: step of the retain weight; null: 1.")
    dual_limit: float | None = Field(
        None, ge=0, description="PDU: largest retain loss; null: that of the base (`nll` only)."
    )
    retain_layers: list[int] | None = Field(None, description="Blocks that `hidden` compares.")
    forget_weight: float = Field(1.0, ge=0, description="Weight (gamma) of the forget term.")
    retain_weight: float = Field(1.0, ge=0, description="Weight (alpha) of the retain term; PDU: the first.")
    schedule: Literal["joint", "alternating"] = Field(
        "joint", description="Both terms in every step, or forget in even and retain in odd steps."
    )
    optimisers: Literal["one", "dual"] = Field(
        "one", description="One AdamW, or one a term; with two, the rates are the weights."
    )
    retain_learning_rate: float | None = Field(
        None, gt=0, description="Peak rate of the retain term's own AdamW; null: `learning_rate`."
    )
    warmup_share: Share = Field(0.1, description="Share of the steps in which the rate rises.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay.")
    clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    checkpoint_every: Positive = Field(25, description="Steps between resumable checkpoints.")
    language_weights: dict[str, float] | None = Field(
        None, description="Sampling weight of each language in both sets; null: every row equally often."
    )
    curriculum: Curriculum | None = Field(None, description="Order by difficulty; null: none.")
    reweighting: Reweighting | None = Field(None, description="Weight by what is remembered; null: none.")
    early_stopping: EarlyStopping | None = Field(None, description="Null: all steps are taken.")

    @model_validator(mode="after")
    def _can_be_trained(self) -> Training:
        try:
            TrainingSettings.from_options(self.model_dump())
        except InputError as problem:
            raise ValueError(str(problem)) from None
        return self


class NoArm(Section):
    """The base model, untouched."""

    kind: Literal["none"]


class OracleArm(Section):
    """A model of the same recipe that never saw the forget languages."""

    kind: Literal["oracle"]


class NoiseArm(Section):
    """Weights noised until the model babbles."""

    kind: Literal["noise"]
    scale: float = Field(1.0, gt=0, description="Noise in standard deviations of each weight matrix.")


class LoraArm(Section):
    """Low-rank adapters on linear layers."""

    kind: Literal["lora"]
    rank: Positive = Field(8, description="Rank of each adapter.")
    alpha: float = Field(16.0, gt=0, description="Scale of the adapters is alpha / rank.")
    targets: list[str] = Field(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        description="Names of the linear layers that get an adapter.",
    )
    layers: LayerChoice = Field("all", description="Which blocks get adapters.")
    training: Training = Field(default_factory=Training, description="How it is trained.")


class ReftArm(Section):
    """LoReFT: a low-rank edit of the residual stream."""

    kind: Literal["reft"]
    rank: Positive = Field(8, description="Dimensions of the stream that the edit may set.")
    layers: LayerChoice = Field("selected", description="Which blocks are edited.")
    training: Training = Field(default_factory=Training, description="How it is trained.")


class SaeClampArm(Section):
    """Latents of the SAE are set to a negative value wherever they fire."""

    kind: Literal["sae_clamp"]
    picker: Literal["contrast", "script_invariant", "attribution", "specificity", "dsg_ratio", "random"] = (
        Field(
            "contrast",
            description="How latents are picked (docs/sae.md); `random`: matched in firing rate.",
        )
    )
    features: Positive = Field(16, description="How many latents are clamped, per layer.")
    strength: float = Field(1.0, description="Clamp value in residual norms; 0 is the identity.")
    gate: Literal["static", "dsg", "window", "cusum", "language"] = Field(
        "static",
        description="When it acts: always, or once the text trips a gate: on the share of firing tokens "
        "(`dsg`), the same in a sliding window, as a CUSUM, or on the language of the tokens.",
    )
    window: Positive = Field(8, description="Tokens over which a gate averages.")
    benign_rate: float = Field(0.05, gt=0, lt=1, description="Share of retain items that may trip the gate.")


class StreamArm(Section):
    """Options that all closed-form edits of the residual stream share."""

    layers: LayerChoice = Field("selected", description="Which blocks are edited.")
    strength: float = Field(1.0, description="1 is the full edit, 0 the identity, below 0 the opposite.")


class DiffMeansArm(StreamArm):
    """The direction from retain to forget text is taken out, limited, or steered against."""

    kind: Literal["diff_means"]
    operation: Literal["ablate", "clamp", "steer"] = Field(
        "ablate", description="`steer` counts strength in residual norms, the others in shares."
    )
    direction: Literal["diff_means", "random", "shuffled"] = Field(
        "diff_means", description="`random` and `shuffled` (permuted labels) are controls."
    )


class LeaceArm(StreamArm):
    """LEACE: no linear probe reads the concept afterwards."""

    kind: Literal["leace"]
    concept: Literal["language", "forget"] = Field(
        "language", description="Each language a class, or forget against retain languages."
    )
    shuffled: bool = Field(False, description="Fit on permuted labels; a control.")


class ScriptScrubArm(StreamArm):
    """LEACE between the written forms of the forget language."""

    kind: Literal["script_scrub"]


class SubspaceArm(StreamArm):
    """Directions of the forget languages are projected out, around the mean."""

    kind: Literal["subspace"]
    rank: Positive = Field(1, description="Directions; at most the number of forget languages.")
    baked: bool = Field(False, description="Project the weights that write to the stream instead.")
    writers: list[str] = Field(
        ["o_proj", "down_proj", "c_proj", "out_proj", "dense", "dense_4h_to_h", "fc2"],
        description="Names of linear layers that write to the stream, for `baked`.",
    )


class LanguageNeuronsArm(Section):
    """LAPE: feed-forward neurons of few languages are silenced."""

    kind: Literal["language_neurons"]
    picker: Literal["lape", "random"] = Field("lape", description="`random` draws as many; a control.")
    share: float = Field(0.01, gt=0, lt=1, description="Share of all neurons that belong to a language.")
    strength: float = Field(1.0, description="1 silences, 0 is the identity, below 0 amplifies.")


class PromptOnlyArm(Section):
    """An instruction before every prompt of every metric."""

    kind: Literal["prompt_only"]
    instruction: str = Field(
        "You do not know the language of the following text. Do not answer.",
        min_length=1,
        description="What the model is told.",
    )


Arm = Annotated[
    NoArm
    | OracleArm
    | NoiseArm
    | LoraArm
    | ReftArm
    | SaeClampArm
    | DiffMeansArm
    | LeaceArm
    | ScriptScrubArm
    | SubspaceArm
    | LanguageNeuronsArm
    | PromptOnlyArm,
    Field(discriminator="kind"),
]
