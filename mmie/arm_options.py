"""The config blocks of arms: one section a kind, told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Training(Section):
    """One training run of an arm: NPO on forget answers, masked KL to the base on retain answers."""

    steps: Positive = Field(150, description="Optimiser steps.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of AdamW.")
    forget_batch: Positive = Field(32, description="Forget items in a step.")
    retain_batch: Positive = Field(32, description="Retain items in a step.")
    beta: float = Field(0.1, gt=0, description="Inverse temperature of NPO.")
    forget_weight: float = Field(1.0, ge=0, description="Weight (gamma) of the forget term.")
    retain_weight: float = Field(1.0, ge=0, description="Weight (alpha) of the retain term.")
    warmup_share: Share = Field(0.1, description="Share of the steps in which the rate rises.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay.")
    clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    checkpoint_every: Positive = Field(25, description="Steps between resumable checkpoints.")


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
    layers: Literal["all", "selected"] | list[int] = Field("all", description="Which blocks get adapters.")
    training: Training = Field(default_factory=Training, description="How it is trained.")


class ReftArm(Section):
    """LoReFT: a low-rank edit of the residual stream."""

    kind: Literal["reft"]
    rank: Positive = Field(8, description="Dimensions of the stream that the edit may set.")
    layers: Literal["all", "selected"] | list[int] = Field("selected", description="Which blocks are edited.")
    training: Training = Field(default_factory=Training, description="How it is trained.")


class SaeClampArm(Section):
    """Latents of the SAE are set to a negative value wherever they fire."""

    kind: Literal["sae_clamp"]
    picker: Literal["contrast", "random"] = Field(
        "contrast",
        description="`contrast` picks forget latents; `random` latents matched in firing rate.",
    )
    features: Positive = Field(16, description="How many latents are clamped, per layer.")
    strength: float = Field(1.0, description="Clamp value in residual norms; 0 is the identity.")


Arm = Annotated[NoArm | OracleArm | NoiseArm | LoraArm | ReftArm | SaeClampArm, Field(discriminator="kind")]
