"""Colours: neutral for arms whose verdict is known beforehand, saturated for arms under study.

Hues are those of Okabe and Ito (2008), told apart with every common colour vision; shape, order and
words always say the same again. One table serves the page and the figures, in light and in dark.
"""

from __future__ import annotations

from collections.abc import Sequence

STUDIED_HUES = 6

# token -> (light, dark)
TOKENS = {
    "paper": ("#fcfcfa", "#16181b"),
    "panel": ("#f3f3ef", "#1f2226"),
    "ink": ("#1d2023", "#e7e6e1"),
    "muted": ("#5d646b", "#a2a8ae"),
    "rule": ("#dcdcd5", "#353a40"),
    "link": ("#00568a", "#7cc0ee"),
    "proceed": ("#00664f", "#3fc39b"),
    "stop": ("#a63c00", "#ff9b62"),
    "unknown": ("#5d646b", "#a2a8ae"),
    "on-chip": ("#ffffff", "#16181b"),
    "base-band": ("#8a9097", "#7d848b"),
    "oracle-band": ("#8a9097", "#7d848b"),
    "heat": ("#00568a", "#69b5e8"),
    "heat-negative": ("#c25200", "#f39a5e"),
    "mark": ("#f5dca6", "#6b5320"),
    "on-heat": ("#ffffff", "#101214"),
    "known-0": ("#4f565c", "#c3c8cc"),
    "known-1": ("#4f565c", "#c3c8cc"),
    "known-2": ("#979da3", "#868d94"),
    "known-3": ("#979da3", "#868d94"),
    "arm-0": ("#0072b2", "#56aee6"),
    "arm-1": ("#d55e00", "#f58b43"),
    "arm-2": ("#00865f", "#2fc298"),
    "arm-3": ("#b0528c", "#dd93bf"),
    "arm-4": ("#8a6d00", "#e0b93c"),
    "arm-5": ("#2c8ec4", "#8fd0f5"),
    "state-correct": ("#0b5a94", "#4ea3df"),
    "state-wrong_in_language": ("#efcf9a", "#b98f4d"),
    "state-other_language": ("#a583bd", "#a583bd"),
    "state-refusal": ("#8fb5a3", "#6f9a86"),
    "state-undetermined": ("#c9cdd1", "#5b6269"),
    "state-empty_gibberish": ("#54595f", "#d3d6d9"),
    "on-state-correct": ("#ffffff", "#101214"),
    "on-state-wrong_in_language": ("#1d2023", "#101214"),
    "on-state-other_language": ("#101214", "#101214"),
    "on-state-refusal": ("#101214", "#101214"),
    "on-state-undetermined": ("#1d2023", "#f2f2f0"),
    "on-state-empty_gibberish": ("#ffffff", "#101214"),
}
KNOWN_SHAPES = ("ring", "diamond", "cross", "square")


def variables() -> str:
    """The tokens as CSS custom properties, light by default, dark where the reader's system is."""

    def block(mode: int) -> str:
        return "".join(f"--{name}:{value[mode]};" for name, value in TOKENS.items())

    return (
        f":root{{color-scheme:light dark;{block(0)}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{block(1)}}}}}\n"
    )


def looks(studied: Sequence[str], known: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour token and shape of every arm: dots for arms under study, other shapes for known ones."""
    found = {arm: (f"arm-{index % STUDIED_HUES}", "dot") for index, arm in enumerate(studied)}
    for index, arm in enumerate(known):
        place = min(index, len(KNOWN_SHAPES) - 1)
        found[arm] = (f"known-{place}", KNOWN_SHAPES[place])
    return found
