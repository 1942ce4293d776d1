"""What objectives there are, what each needs and which options it has. Light: needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

from mmie.errors import InputError


@dataclass(frozen=True)
class Objective:
    """One forget or retain term, as the configuration names it."""

    unit: Literal["item", "token"]
    """What the mean is over: answers, or answer tokens of all answers together."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options that belong to this term alone, with their defaults; None: see the term."""
    alternates: Literal["refusals", "answers"] | None = None
    """Other answers it needs: refusals in the prompt's language, or answers to other prompts."""
    reference: Literal["nll", "logits", "hidden"] | None = None
    """What it needs of the frozen reference."""
    source: str = ""
    """arXiv id of the paper."""


FORGET: Mapping[str, Objective] = {
    "npo": Objective("item", {"beta": 0.1}, reference="nll", source="2404.05868"),
    "simnpo": Objective("item", {"beta": 2.5, "delta": 0.0}, source="2410.07163"),
    "gradient_ascent": Objective("item", source="2401.06121"),
    "graddiff": Objective("item", source="2401.06121"),
    "bounded": Objective("item", {"bound": None}),
    "idk_dpo": Objective(
        "item", {"beta": 0.1, "preference_scale": "one"}, "refusals", "nll", source="2401.06121"
    ),
    "altpo": Objective(
        "item", {"beta": 0.1, "preference_scale": "one"}, "answers", "nll", source="2409.13474"
    ),
    "inverted_hinge": Objective("token", source="2408.06621"),
    "max_entropy": Objective("token", source="2410.08109"),
    "max_entropy_reverse": Objective("token", source="2410.08109"),
    "wga": Objective("token", {"beta": 1.0}, source="2502.19301"),
    "satimp": Objective("token", {"saturation_power": 5.0, "importance_power": 1.0}, source="2505.11953"),
    "ce_u": Objective("token", source="2503.01224"),
    "undial": Objective("token", {"beta": 10.0}, reference="logits", source="2402.10052"),
    "jensun": Objective("token", alternates="refusals", source="2509.02820"),
    "pdu": Objective("token", {"dual_rate": 1.0, "dual_limit": None}, source="2506.05314"),
}

RETAIN: Mapping[str, Objective] = {
    "kl": Objective("token", reference="logits"),
    "nll": Objective("item", source="2401.06121"),
    "jsd": Objective("token", reference="logits", source="2509.02820"),
    "hidden": Objective("token", {"retain_layers": None}, reference="hidden", source="2403.03218"),
}


def describe(name: str, catalogue: Mapping[str, Objective], key: str) -> Objective:
    """Look an objective up.

    Raises:
        InputError: an unknown name; the message gives the nearest known one.
    """
    if name not in catalogue:
        close = get_close_matches(str(name), catalogue, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise InputError(f"{key} = {name!r}: unknown. Known: {', '.join(catalogue)}.{hint}")
    return catalogue[name]


def resolve_options(
    forget: Objective, retain: Objective, given: Mapping[str, Any], names: tuple[str, str]
) -> dict[str, Any]:
    """Options of the two terms: what was given, else their defaults.

    Args:
        forget: the forget term.
        retain: the retain term.
        given: every option of the catalogue; None where the configuration says nothing.
        names: of the two terms, for messages.

    Raises:
        InputError: an option that neither term has: it would be silently inactive.
    """
    own = {**forget.options, **retain.options}
    idle = sorted(name for name, value in given.items() if value is not None and name not in own)
    if idle:
        raise InputError(
            f"training.{idle[0]}: objective {names[0]!r} with retain_objective {names[1]!r} does not use it. "
            f"Remove it; their options are: {', '.join(sorted(own)) or 'none'}."
        )
    return {name: default if given.get(name) is None else given[name] for name, default in own.items()}
