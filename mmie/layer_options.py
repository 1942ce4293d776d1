"""The config block of layer selection."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from mmie.arm_options import Positive, Section

FEWEST_PAIRS = 50
"""As many as causal validation asks for; its own constant would load torch with every configuration."""


class LayerWeights(Section):
    """What each score counts when layers are ranked; 0 leaves it out."""

    cka: float = Field(1.0, ge=0, allow_inf_nan=False, description="Of CKA, among the three similarities.")
    procrustes: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="Of Procrustes, among the three similarities."
    )
    anc: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="Of neuron correlation, among the three similarities."
    )
    similarity: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="Of the similarities together, against the probe; `specific` alone reads it.",
    )
    selectivity: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="Of the probe's selectivity; `specific` alone reads it."
    )


class Layers(Section):
    """How layers are chosen."""

    method: Literal["specific", "shared", "middle"] = Field(
        "specific",
        description="`specific`: layers that tell languages apart; `shared`: layers that join them.",
    )
    top: Positive = Field(1, description="How many layers to choose.")
    weights: LayerWeights = Field(default_factory=LayerWeights, description="Weights of the scores.")
    combine: Literal["average", "vote"] = Field(
        "average",
        description="`average`: the highest mean rank over half-samples, ties to the lowest layer; `vote`: "
        "the layers that win most half-samples.",
    )
    script_blind: bool = Field(
        False,
        description="Score on romanised sentences, so that letters do not tell languages apart.",
    )
    permutations: Positive = Field(1000, description="Pairings drawn for the null of each similarity.")
    half_samples: Positive = Field(200, description="Half-samples of items behind the standard errors.")
    pairs: int = Field(
        50,
        ge=0,
        description="Matched DEV pairs whose states the report patches at the selected layers; 0 for none.",
    )

    @field_validator("pairs")
    @classmethod
    def _enough_pairs(cls, value: int) -> int:
        if 0 < value < FEWEST_PAIRS:
            raise ValueError(f"{value} pairs decide nothing: give at least {FEWEST_PAIRS}, or 0 for none")
        return value

    @model_validator(mode="after")
    def _something_counts(self) -> Layers:
        weights = self.weights
        alike = weights.cka + weights.procrustes + weights.anc
        if self.method == "shared" and not alike:
            raise ValueError("weights: cka, procrustes and anc are all 0, so nothing ranks the layers")
        if self.method == "specific" and not (alike and weights.similarity) and not weights.selectivity:
            raise ValueError("weights: similarity and selectivity are both 0, so nothing ranks the layers")
        return self
