"""Size and training of an autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from mmie.errors import InputError
from mmie.sae.architectures import ARCHITECTURES

CENTRES = ("mean", "geometric_median")
ENCODERS = ("auto", "float32")


@dataclass(frozen=True)
class SaeOptions:
    """Size and training of an autoencoder; options that do not apply together are an error."""

    load: str | None = None
    """Directory of existing autoencoders to use in place of training; `{layer}` stands for the layer."""
    architecture: str = "topk"
    """A name of `mmie.sae.architectures.ARCHITECTURES`."""
    expansion: int = 8
    """Latents per residual dimension."""
    k: int = 16
    """Latents that fire for a token: at most (topk), on average (all others)."""
    epochs: int = 8
    """Passes over the stored rows."""
    batch_size: int = 512
    """Rows of a step."""
    learning_rate: float | None = 2e-3
    """Peak rate of Adam; None: 2e-4 / sqrt(latents / 2^14), the rule for 1e8 tokens and more."""
    decoder_rate: float = 3.0
    """Rate of the decoder rows in units of `learning_rate`."""
    centre: str = "mean"
    """Where the decoder bias starts: mean, or geometric_median (a few far rows do not move it)."""
    data_share: float = 0.5
    """Share of a data row's direction in each initial decoder row; the rest is random."""
    auxiliary_weight: float = 1 / 32
    """Weight of the loss that revives dead latents."""
    sparsity_weight: float | None = None
    """Weight of JumpReLU's penalty (L0 / k - 1)^2; None: 0.1. For no other architecture."""
    prefixes: Sequence[float] | None = None
    """Nested widths of a Matryoshka autoencoder as shares of the latents. For no other architecture."""
    decorrelation: float = 0.0
    """Weight of the mean squared cosine between different decoder rows."""
    encoder: str = "auto"
    """auto: candidates of topk are proposed in bfloat16 where the machine multiplies it faster."""
    dead_window: float = 0.1
    """A latent is dead after this share of the token budget without firing."""
    warmup: float = 0.05
    """Share of the steps in which the rate rises."""
    decay: float = 0.2
    """Share of the steps at the end in which it falls to 0."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    minimum_tokens_per_latent: float = 50.0
    """Fewer rows per latent, counted over all epochs, are an error."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("architecture", self.architecture, tuple(ARCHITECTURES)),
            ("centre", self.centre, CENTRES),
            ("encoder", self.encoder, ENCODERS),
        ):
            if value not in known:
                raise InputError(f"sae.{name}: {value!r} is none of {', '.join(known)}.")
        if self.load is not None:
            self._refuse_training_options()
        for name, owner in (("sparsity_weight", "jumprelu"), ("prefixes", "matryoshka")):
            if getattr(self, name) is not None and self.architecture != owner:
                raise InputError(
                    f"sae.{name}: acts only with architecture {owner}, not {self.architecture}. Leave it "
                    "out, or change sae.architecture."
                )
        if self.encoder != "auto" and self.architecture != "topk":
            raise InputError(
                f"sae.encoder: acts only with architecture topk, not {self.architecture}. Leave it out."
            )
        if self.decoder_rate <= 0:
            raise InputError(f"sae.decoder_rate: {self.decoder_rate} must be above 0.")
        if not 0 <= self.data_share <= 1:
            raise InputError(f"sae.data_share: {self.data_share} is not a share. Use 0 to 1.")
        if self.decorrelation < 0:
            raise InputError(f"sae.decorrelation: {self.decorrelation} is negative. Use 0 or more.")

    def _refuse_training_options(self) -> None:
        changed = [
            field.name
            for field in fields(self)
            if field.name != "load" and getattr(self, field.name) != field.default
        ]
        if changed:
            raise InputError(
                f"sae.load: nothing is trained, so sae.{', sae.'.join(changed)} would not act. Leave them or "
                "sae.load out."
            )
