"""The config blocks of arms: one section a kind, told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from mmie.trained_arm_options import (
    ContrastiveArm,
    CrispArm,
    Curriculum,
    EarlyStopping,
    FullArm,
    GatedReftArm,
    LayerChoice,
    LingTeaArm,
    LoraArm,
    NegativeReftArm,
    Picker,
    Positive,
    ReftArm,
    Reweighting,
    RmuArm,
    Section,
    Share,
    TaskVectorArm,
    Training,
)

__all__ = ["Arm", "Curriculum", "EarlyStopping", "Positive", "Reweighting", "Section", "Share", "Training"]


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


class SaeClampArm(Section):
    """Latents of the SAE are set to a negative value wherever they fire."""

    kind: Literal["sae_clamp"]
    picker: Picker = Field(
        "contrast", description="How latents are picked (docs/sae.md); `random`: matched in firing rate."
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
        [
            "o_proj",
            "down_proj",
            "c_proj",
            "out_proj",
            "dense",
            "dense_4h_to_h",
            "fc2",
            "fc_out",
            "output_linear",
        ],
        description="Names of layers that write to the stream, for `baked`.",
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


# Kinds that act by hooks alone (`subspace` unless it is baked): parts of a combined arm in any place.
HOOKED_KINDS = (
    "none", "reft", "sae_clamp", "diff_means", "leace", "script_scrub", "subspace", "language_neurons",
    "prompt_only", "negative_reft", "gated_reft",
)  # fmt: skip


def acts_by_hooks(arm: Any) -> bool:
    """Whether an arm, configured or fitted, leaves weights and modules of the model as they are."""
    return arm.kind in HOOKED_KINDS and not getattr(arm, "baked", False)


class CombinedArm(Section):
    """Other arms in force at once, as they were fitted on the base: the cell `both` of a factorial design."""

    kind: Literal["combined"]
    parts: list[str] = Field(
        min_length=2,
        description="Names of other arms, innermost first; one that changes weights or has adapters must be "
        "the first.",
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
    | PromptOnlyArm
    | NegativeReftArm
    | GatedReftArm
    | LingTeaArm
    | CrispArm
    | FullArm
    | TaskVectorArm
    | RmuArm
    | ContrastiveArm
    | CombinedArm,
    Field(discriminator="kind"),
]
