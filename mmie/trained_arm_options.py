"""The config blocks of arms that are trained, and what all blocks share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmie.errors import InputError
from mmie.training.settings import TrainingSettings

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
LayerChoice = Literal["all", "selected", "random", "worst", "middle"] | list[int]
"""Blocks: all, those of the layer stage, a control of as many blocks, or numbers."""
Picker = Literal[
    "contrast", "script_invariant", "attribution", "specificity", "dsg_ratio", "dsg_squared_mean", "random"
]
"""How latents of an SAE are picked."""


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Curriculum(Section):
    """Forget rows drawn by how well the base knew them, in three stages of a third each."""

    order: Literal["easy_first", "hard_first"] = Field(
        "easy_first", description="`easy_first`: weakly memorised rows first, strongly memorised ones last."
    )
    temperature: float = Field(1.0, gt=0, description="Of the softmax over standardised difficulties.")
    moments: Literal["carry", "reset"] = Field(
        "carry", description="AdamW's moments where a stage begins: they go on, or start from 0."
    )


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
    reference: Literal["adapter_off", "cached"] = Field(
        "adapter_off",
        description="Distributions of the base on retain answers: beside every batch, or once before the "
        "first step (faster, a little more memory).",
    )
    reference_top: Positive | None = Field(
        None,
        description="`cached`: most likely tokens to keep, the others in one lump (`kl` only); null: all.",
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


_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class LoraArm(Section):
    """Low-rank adapters on linear layers."""

    kind: Literal["lora"]
    rank: Positive = Field(8, description="Rank of each adapter.")
    alpha: float = Field(16.0, gt=0, description="Scale of the adapters is alpha / rank.")
    targets: list[str] = Field(
        _TARGETS,
        description="Names of the linear layers that get an adapter.",
    )
    layers: LayerChoice = Field("all", description="Which blocks get adapters.")
    dora: bool = Field(False, description="DoRA: train the length of each weight row apart.")
    training: Training = Field(default_factory=Training, description="How it is trained.")


class ReftArm(Section):
    """LoReFT: a low-rank edit of the residual stream."""

    kind: Literal["reft"]
    rank: Positive = Field(8, description="Dimensions of the stream that the edit may set.")
    layers: LayerChoice = Field("selected", description="Which blocks are edited.")
    variant: Literal["loreft", "noreft", "direft"] = Field(
        "loreft", description="NoReFT: free rows; DiReFT: free rows that only add."
    )
    training: Training = Field(default_factory=Training, description="How it is trained.")


class FineTuning(Section):
    """A training run of an arm whose objective belongs to its kind."""

    steps: int = Field(150, ge=2, description="Optimiser steps.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of AdamW.")
    batch: Positive = Field(32, description="Items of each set in a step.")
    micro_batch: Positive | None = Field(None, description="Items in memory at once; null: the whole batch.")
    warmup_share: Share = Field(0.1, description="Share of the steps in which the rate rises.")
    weight_decay: float = Field(0.0, ge=0, description="Pulls the change, not the weights, to 0.")
    clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    checkpoint_every: Positive = Field(25, description="Steps between resumable checkpoints.")


class NegativeReftArm(Section):
    """A ReFT edit that was trained to know the forget answers, applied the other way round."""

    kind: Literal["negative_reft"]
    rank: Positive = Field(8, description="Dimensions of the stream that the edit may set.")
    layers: LayerChoice = Field("selected", description="Which blocks are edited.")
    variant: Literal["loreft", "noreft", "direft"] = Field("loreft", description="As in `reft`.")
    strength: float = Field(1.0, description="Share of the learned change that is subtracted.")
    training: FineTuning = Field(default_factory=FineTuning, description="The learning.")


class GatedReftArm(Section):
    """ReFT behind a gate a token, which stays shut on retain text."""

    kind: Literal["gated_reft"]
    rank: Positive = Field(8, description="Dimensions of the stream that the edit may set.")
    layers: LayerChoice = Field("selected", description="Which blocks are edited.")
    variant: Literal["loreft", "noreft", "direft"] = Field("loreft", description="As in `reft`.")
    sparsity: float = Field(1.0, ge=0, description="Weight of the mean opening over retain tokens.")
    training: Training = Field(default_factory=Training, description="How it is trained.")


class LingTeaArm(Section):
    """LoRA by gradient ascent and adaptive distillation in turns."""

    kind: Literal["lingtea"]
    rank: Positive = Field(8, description="Rank of each adapter.")
    alpha: float = Field(16.0, gt=0, description="Scale of the adapters is alpha / rank.")
    targets: list[str] = Field(_TARGETS, description="Names of the linear layers that get an adapter.")
    layers: LayerChoice = Field("all", description="Which blocks get adapters.")
    temperature: float = Field(1.0, gt=0, description="Of the distillation.")
    retain_weight: float = Field(2.0, gt=0, description="Multiplier of the retain steps.")
    training: FineTuning = Field(
        default_factory=FineTuning, description="How it is trained; forget and retain steps both count."
    )


class CrispArm(Section):
    """LoRA until latents of the SAE fall silent on forget text."""

    kind: Literal["crisp"]
    rank: Positive = Field(4, description="Rank of each adapter.")
    alpha: float = Field(16.0, gt=0, description="Scale of the adapters is alpha / rank.")
    targets: list[str] = Field(_TARGETS, description="Names of the linear layers that get an adapter.")
    layers: LayerChoice = Field("all", description="Which blocks get adapters.")
    picker: Picker = Field("contrast", description="How latents are picked (docs/sae.md); `random`: control.")
    features: Positive = Field(10, description="How many latents are silenced, per layer.")
    lift: float = Field(
        5.0, ge=0, description="Margin below firing where the base fires, in mean pre-activations of a token."
    )
    retain_share: float = Field(0.99, gt=0, lt=1, description="beta: weight of the retain term of both.")
    coherence_weight: float = Field(
        0.01, ge=0, description="gamma: weight of the last block's stream beside that of the SAE's layers."
    )
    training: FineTuning = Field(default_factory=FineTuning, description="How it is trained.")


class FullArm(Section):
    """Full fine-tuning; the change of the weights is stored."""

    kind: Literal["full"]
    layers: LayerChoice = Field("all", description="Trained blocks; `all`: embeddings and head too.")
    training: Training = Field(default_factory=Training, description="How it is trained.")


class TaskVectorArm(Section):
    """The base minus what fine-tuning on forget answers adds to it."""

    kind: Literal["task_vector"]
    strength: float = Field(1.0, description="Share of the change that is subtracted; 0 is the identity.")
    layers: LayerChoice = Field("all", description="Fine-tuned blocks; `all`: embeddings and head too.")
    training: FineTuning = Field(default_factory=FineTuning, description="The fine-tuning.")


class RmuArm(Section):
    """RMU: the stream at forget answers is pushed to a random direction."""

    kind: Literal["rmu"]
    layer: Literal["selected"] | int = Field(
        "selected", description="Steered block; `selected`: the deepest selected one."
    )
    depth: Positive = Field(3, description="Trained blocks: `layer` and those before it.")
    targets: list[str] = Field(["down_proj"], description="Names of the modules whose weight is trained.")
    adaptive: bool = Field(True, description="Adaptive RMU: the target's length follows each token's own.")
    coefficient: float = Field(
        5.0, gt=0, description="Target's length: adaptive, in lengths of the base's stream; else absolute."
    )
    retain_weight: float = Field(1.0, gt=0, description="Weight (alpha) of the retain term.")
    training: FineTuning = Field(default_factory=FineTuning, description="How it is trained.")


class Contrast(Section):
    """Losses on triples (docs/contrastive.md)."""

    loss: Literal["infonce", "linear", "triplet"] = Field("infonce", description="Contrastive loss.")
    negatives: Literal["two_logit", "in_batch"] = Field(
        "two_logit", description="infonce: the triple's own attack, or every attack in memory with it."
    )
    temperature: float = Field(0.07, gt=0, description="infonce, linear: tau.")
    margin: float = Field(1.0, gt=0, description="triplet: margin.")
    anchor: Literal["frozen_base", "stop_grad", "live"] = Field(
        "frozen_base", description="The base's vector, or the arm's without or with gradient."
    )
    pool: Literal["mean", "last_prompt_token"] = Field("mean", description="How a prompt becomes a vector.")
    head: bool = Field(False, description="Compare behind a projection head.")
    weight: float = Field(1.0, ge=0, description="lambda_c; 0 is a control.")
    ramp_share: Share = Field(0.1, description="Share of the steps in which lambda_c rises.")
    refusal_weight: float = Field(1.0, ge=0, description="lambda_x: weight of the refusals to attacks.")
    benign_weight: float = Field(1.0, ge=0, description="Weight of the answers to benign prompts.")
    batch: int = Field(8, ge=2, description="Triples in a step, each three rows.")
    collapse_limit: float = Field(
        0.3, gt=0, description="Largest rise of the mean cosine of different anchors; then the run stops."
    )

    @model_validator(mode="after")
    def _has_a_meaning(self) -> Contrast:
        if self.negatives == "in_batch" and self.loss != "infonce":
            raise ValueError("contrast.negatives: in_batch belongs to loss infonce. Remove it")
        if self.head and self.weight == 0:
            raise ValueError("contrast.head: with weight 0 nothing trains it. Raise weight, or remove it")
        return self


class ContrastiveArm(Section):
    """LoRA trained on triples of a benign prompt, its twin and an attack."""

    kind: Literal["contrastive"]
    triples: list[str] = Field(description="Files of triples.", min_length=1)
    benign: Literal["fit_rows", "as_given"] = Field(
        "fit_rows", description="Benign pairs: drawn from FIT rows, or those of the files that are FIT."
    )
    rank: Positive = Field(8, description="Rank of each adapter.")
    alpha: float = Field(16.0, gt=0, description="Scale of the adapters is alpha / rank.")
    targets: list[str] = Field(_TARGETS, description="Names of the linear layers that get an adapter.")
    dora: bool = Field(False, description="DoRA: train the length of each weight row apart.")
    layers: LayerChoice = Field("all", description="Which blocks get adapters.")
    contrast_layers: LayerChoice = Field("selected", description="Blocks whose output is compared.")
    shuffled: Literal["counterfactual", "adversarial"] | None = Field(
        None, description="Given to other triples; a control."
    )
    head_only: bool = Field(False, description="Train the projection head alone; a control.")
    contrast: Contrast = Field(default_factory=Contrast, description="Losses on triples.")
    training: Training = Field(default_factory=Training, description="Forget and retain terms, and the run.")

    @model_validator(mode="after")
    def _head_is_there(self) -> ContrastiveArm:
        if self.head_only and not self.contrast.head:
            raise ValueError("head_only: it trains the head. Set contrast.head: true")
        return self
