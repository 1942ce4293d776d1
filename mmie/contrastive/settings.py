"""What a contrastive term is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from mmie.errors import InputError


@dataclass(frozen=True)
class ContrastSettings:
    """lambda_c L_C + refusal_weight L_X + benign_weight L_B on triples."""

    loss: Literal["infonce", "linear", "triplet"] = "infonce"
    """L_C."""
    negatives: Literal["two_logit", "in_batch"] = "two_logit"
    """infonce: the triple's own attack, or every attack in memory with it."""
    temperature: float = 0.07
    """tau of infonce and linear."""
    margin: float = 1.0
    """Of triplet."""
    anchor: Literal["frozen_base", "stop_grad", "live"] = "frozen_base"
    """The anchor's vector: the base's, or the arm's without or with gradient."""
    pool: Literal["mean", "last_prompt_token"] = "mean"
    """How the hidden states of a prompt become one vector."""
    head: bool = False
    """Compare behind a projection head, which is trained and thrown away for generation."""
    weight: float = 1.0
    """lambda_c once it has risen; 0 is a control."""
    ramp_share: float = 0.1
    """Share of the steps in which lambda_c rises from 0."""
    refusal_weight: float = 1.0
    """lambda_x: answer NLL of the refusals to attacks."""
    benign_weight: float = 1.0
    """Answer NLL of anchors and counterfactuals."""
    batch: int = 8
    """Triples in a step, each three rows."""
    collapse_limit: float = 0.3
    """Largest rise of the mean cosine between different anchors above the base's."""

    @classmethod
    def read(cls, options: ContrastSettings | Mapping[str, Any]) -> ContrastSettings:
        """Accept the settings or the `contrast` block of an arm.

        Raises:
            InputError: an unknown key, a value out of range, an option without effect.
        """
        if isinstance(options, ContrastSettings):
            return options
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise InputError(f"contrast.{unknown[0]}: unknown key. Known: {', '.join(known)}.")
        read = cls(**options)
        read.check()
        return read

    def check(self) -> None:
        """Raise an InputError for values without meaning."""
        positive = ("temperature", "margin", "collapse_limit")
        at_least_0 = ("weight", "refusal_weight", "benign_weight", "ramp_share")
        problems = {
            **{f"{name}: must be above 0": getattr(self, name) <= 0 for name in positive},
            **{f"{name}: must not be negative": getattr(self, name) < 0 for name in at_least_0},
            "loss: choose infonce, linear or triplet": self.loss not in ("infonce", "linear", "triplet"),
            "negatives: choose two_logit or in_batch": self.negatives not in ("two_logit", "in_batch"),
            "anchor: choose frozen_base, stop_grad or live": self.anchor
            not in ("frozen_base", "stop_grad", "live"),
            "pool: choose mean or last_prompt_token": self.pool not in ("mean", "last_prompt_token"),
            "batch: two triples at least, or collapse is not seen": self.batch < 2,
            "ramp_share: at most 1": self.ramp_share > 1,
            "negatives: in_batch belongs to loss infonce. Remove it": self.negatives == "in_batch"
            and self.loss != "infonce",
            "head: with weight 0 nothing would train it. Raise weight, or remove it": self.head
            and self.weight == 0,
        }
        for problem, found in problems.items():
            if found:
                raise InputError(f"contrast.{problem}.")

    def ramp(self, number: int, total: int) -> float:
        """lambda_c in step `number` of `total`: from 0, linearly, over the first `ramp_share` of them."""
        rising = int(self.ramp_share * total)
        return self.weight * min(1.0, number / rising) if rising else self.weight

    def splits_negatives(self, micro_batch: int | None) -> bool:
        """Whether accumulation changes the loss: negatives come from the triples in memory alone."""
        triples = None if micro_batch is None else triples_at_once(micro_batch)
        return self.negatives == "in_batch" and triples is not None and triples < self.batch

    def as_options(self) -> dict[str, Any]:
        """Plain JSON content."""
        return asdict(self)


def triples_at_once(micro_batch: int) -> int:
    """Triples that fit where `micro_batch` rows do: each is three."""
    return max(1, micro_batch // 3)
